export declare const VERSION: string;

/** The signed-in user, as named in the token. For display only, not for access control. */
export interface User {
  id: string;
  username: string;
  sessionId: string;
}

/** A user signed in, signed out, or has to sign in again because the session ended elsewhere. */
export type Reason = "signed-in" | "signed-out" | "session-ended";

/** "unknown" until the service has responded. */
export type State = "unknown" | "signed-in" | "signed-out";

export interface Change {
  user: User | null;
  reason: Reason;
}

export interface Options {
  /** The URL of the service. Default: the one that served this module, or the origin of the page for a copy of it. */
  baseUrl?: string;
  /** Other origins to which `fetch` sends the token. */
  origins?: readonly string[];
}

/** An error of the service; `status` is 0 if the service did not respond. */
export declare class ApiError extends Error {
  readonly status: number;
  /** An error code of the service, or "network_error", "timeout" or "unknown". */
  readonly code: string;
  /** The seconds to wait before the next attempt, if the service sent `Retry-After`. */
  readonly retryAfter: number | null;
}

export interface Client {
  /** The URL of the service, without a slash at its end. */
  readonly baseUrl: string;
  readonly user: User | null;
  readonly state: State;
  /** Return the signed-in user or null. While the service cannot be reached, `state` is "unknown". */
  restore(): Promise<User | null>;
  /** Sign in and return the user. */
  signIn(username: string, password: string): Promise<User>;
  /** Get a fresh token with the password, for requests that need a recent authentication. A new session replaces the
      current one. */
  reauthenticate(password: string): Promise<void>;
  /** Change the password. A new session replaces the current one, and all other sessions of the user end. */
  changePassword(currentPassword: string, newPassword: string): Promise<void>;
  /** Sign out in all tabs at once. Rejects if the service could not be reached. */
  signOut(): Promise<void>;
  /** Call the global fetch, with the access token if the origin is allowed to get it. */
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
  /** Call `listener` at each change, in any tab. Returns a function that removes the listener. */
  onChange(listener: (change: Change) => void): () => void;
  /** Discard the token and stop all work. The session stays live. */
  close(): void;
}

export declare function createClient(options?: Options): Client;
