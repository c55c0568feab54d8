export declare const VERSION: string;

/** Who is signed in, as the token says: to be shown, and not to be relied upon. */
export interface User {
  id: string;
  username: string;
  sessionId: string;
}

/** Somebody signed in, signed out, or has to sign in anew because the session ended elsewhere. */
export type Reason = "signed-in" | "signed-out" | "session-ended";

/** "unknown" as long as the service has not been asked or has not answered. */
export type State = "unknown" | "signed-in" | "signed-out";

export interface Change {
  user: User | null;
  reason: Reason;
}

export interface Options {
  /** The origin of the service; the page's own unless given. */
  baseUrl?: string;
  /** Other origins that may get the token. */
  origins?: readonly string[];
}

/** A refusal by the service; `status` is 0 where there was no answer of its own. */
export declare class ApiError extends Error {
  readonly status: number;
  /** One of the service's codes, or "network_error", "timeout" or "unknown". */
  readonly code: string;
  /** Seconds to wait before the next try, if the service said so. */
  readonly retryAfter: number | null;
}

export interface Client {
  readonly baseUrl: string;
  readonly user: User | null;
  readonly state: State;
  restore(): Promise<User | null>;
  signIn(username: string, password: string): Promise<User>;
  reauthenticate(password: string): Promise<void>;
  signOut(): Promise<void>;
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
  onChange(listener: (change: Change) => void): () => void;
  close(): void;
}

export declare function createClient(options?: Options): Client;
