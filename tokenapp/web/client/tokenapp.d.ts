/** The version of this file, which is that of the service. */
export declare const VERSION: string;

/** The signed-in user, as named in the token. For display only, not for access control. The object is never changed. */
export interface User {
  /** The id of the user at the service. It never changes. */
  readonly id: string;
  /** The name of the user. An operator may change it. */
  readonly username: string;
  /** The id of the session: one sign-in on one device. It changes when the password is given again. */
  readonly sessionId: string;
}

/** "unknown" until the service has responded. Show neither the form nor the user then. */
export type State = "unknown" | "signed-in" | "signed-out";

/** What a listener gets. `reason` tells the cases apart. */
export type Change =
  /** A user signed in, in any tab, or the name of the user changed. */
  | { readonly reason: "signed-in"; readonly user: User }
  /** The user signed out, in any tab, or the service responded that no user is signed in. */
  | { readonly reason: "signed-out"; readonly user: null }
  /** The session expired, was revoked, or lost its cookie. `error` is that of the service, or `cookies_blocked`. */
  | { readonly reason: "session-ended"; readonly user: null; readonly error: ApiError | null }
  /** The session ends at `endsAt` (milliseconds, as in `Date.now()`), whatever the user does. At most five minutes
      before the end; `reauthenticate` opens a new session. */
  | { readonly reason: "session-ending"; readonly user: User; readonly endsAt: number };

/** Why listeners were called. */
export type Reason = Change["reason"];

/** The options of `createClient`. */
export interface Options {
  /** The URL of the service, with its path if it has one. Default: the service that served this module, or the origin
      of the page for a copy or a bundle. */
  baseUrl?: string | URL | undefined;
  /** Other origins to which `fetch` sends the token, such as `["https://api.example.com"]`. */
  origins?: readonly (string | URL)[] | undefined;
  /** "auto" (default): a visible page keeps its session alive. "when-used": the client refreshes only when it is called
      and when the page is shown, so that a session on an unattended screen expires. */
  refresh?: "auto" | "when-used" | undefined;
}

/** The codes of `ApiError`: those of the service, and five of the client. */
export type ErrorCode =
  // The service did not respond, or not in time.
  | "network_error"
  | "timeout"
  // The service responded without a code.
  | "unknown"
  // The browser does not keep the cookie of the service.
  | "cookies_blocked"
  // `close()` was called.
  | "client_closed"
  // Errors of the service: docs/errors.md describes them.
  | "invalid_request"
  | "invalid_credentials"
  | "invalid_code"
  | "passkey_invalid"
  | "passkey_unknown"
  | "invalid_client"
  | "unauthorized_client"
  | "refresh_token_missing"
  | "refresh_token_expired"
  | "refresh_token_revoked"
  | "device_proof_invalid"
  | "device_proof_required"
  | "access_token_missing"
  | "access_token_invalid"
  | "access_key_invalid"
  | "insufficient_scope"
  | "password_rejected"
  | "username_rejected"
  | "username_taken"
  | "address_rejected"
  | "address_taken"
  | "link_invalid"
  | "password_change_required"
  | "role_rejected"
  | "second_factor_required"
  | "sign_in_expired"
  | "passkey_rejected"
  | "passkey_not_found"
  | "factor_not_found"
  | "last_way_to_sign_in"
  | "user_not_found"
  | "session_not_found"
  | "access_key_not_found"
  | "too_many_access_keys"
  | "too_many_attempts"
  | "reauthentication_required"
  | "key_not_found"
  | "key_pending"
  | "key_in_use"
  | "key_rejected"
  | "client_not_found"
  | "cross_site_request"
  | "not_found"
  | "method_not_allowed"
  | "request_too_large"
  | "unsupported_media_type"
  | "internal_error"
  | "service_unavailable";

/** An error of the service; `status` is 0 if the service did not respond. `message` is a sentence for users. */
export declare class ApiError extends Error {
  constructor(
    status: number,
    code: ErrorCode,
    message?: string,
    retryAfter?: number | null,
    options?: { cause?: unknown },
  );
  readonly name: "ApiError";
  /** The status of the response, or 0. */
  readonly status: number;
  readonly code: ErrorCode;
  /** The seconds to wait before the next attempt, if the service sent `Retry-After`. */
  readonly retryAfter: number | null;
}

/** How a second step can be completed. */
export type SecondMethod = "totp" | "recovery_code" | "passkey";

/** A second factor: a code, or a passkey, for which the browser asks. */
export interface SecondFactor {
  readonly method: SecondMethod;
  readonly code?: string | undefined;
}

/** The second step after the right password. It expires after five minutes. */
export interface SecondStep {
  /** What the user can complete it with. It is empty if they have no second factor, and the service requires one. */
  readonly methods: readonly SecondMethod[];
  /** What the user can set up now, if the service requires a second factor and they have none. */
  readonly setup: readonly ("totp" | "passkey")[];
  /** Complete the sign-in: with a code, or with a passkey, for which the browser asks. If `setup` is not empty, it creates
      the passkey. Rejects with `invalid_code` if the code is wrong: call it again with another one. Rejects with
      `sign_in_expired` if a new sign-in is needed. */
  readonly complete: (method: SecondMethod, code?: string) => Promise<Completed>;
  /** Start to set up an authenticator app. `complete("totp", code)` confirms it. */
  readonly startSetup: () => Promise<TotpSetup>;
}

/** A completed sign-in. Recovery codes come with a factor that it set up: show them now, because they come only once. */
export interface Completed {
  readonly user: User;
  readonly recoveryCodes: readonly string[];
}

/** The secret for an authenticator app: in base32, as a URI, and that as a QR code. */
export interface TotpSetup {
  readonly secret: string;
  readonly uri: string;
  readonly qrSvg: string;
}

/** How the browser asks for a passkey. */
export interface PasskeyOptions {
  mediation?: "optional" | "required" | "conditional" | undefined;
  signal?: AbortSignal | undefined;
}

/** A client. Its functions do not use `this`: `const { signIn, signOut } = client` works. */
export interface Client {
  /** The URL of the service, without a slash at its end. */
  readonly baseUrl: string;
  /** The signed-in user or null: the same object until it changes. */
  readonly user: User | null;
  /** Whether a user is signed in. */
  readonly state: State;
  /** When the session ends even if it is used (milliseconds, as in `Date.now()`), or null. */
  readonly sessionEndsAt: number | null;
  /** At page load: return the signed-in user, from the cookie or another tab, or null. If the service cannot be
      reached, `state` stays "unknown", and the client tries again by itself. */
  readonly restore: () => Promise<User | null>;
  /** Sign in. Returns the user, or the second step that the sign-in needs: `"complete" in result` tells. */
  readonly signIn: (username: string, password: string) => Promise<User | SecondStep>;
  /** Sign in with a passkey, and return the user. Rejects with the browser's `DOMException` if the user cancels. With
      `{ mediation: "conditional" }` the browser offers passkeys in a field with `autocomplete="username webauthn"`, until
      the client asks for a passkey in another way. */
  readonly signInWithPasskey: (how?: PasskeyOptions) => Promise<User>;
  /** Get a fresh token with the password or a second factor, after an error `reauthentication_required`. A new session
      replaces the current one. Returns null, or the second step that the password needs. */
  readonly reauthenticate: (proof: string | SecondFactor) => Promise<SecondStep | null>;
  /** Change the password. A new session replaces the current one, and all other sessions of the user end. */
  readonly changePassword: (currentPassword: string, newPassword: string) => Promise<void>;
  /** Sign out in all tabs at once. Rejects if the service could not be reached: the session is then still live. */
  readonly signOut: () => Promise<void>;
  /** Return the current access token, refreshed if it is about to expire, or null if no user is signed in. Anyone who
      has it can act as the user until it expires: send it to your own services only, and call this for each request
      instead of storing it. All calls share one refresh. */
  readonly getToken: () => Promise<string | null>;
  /** Call the global fetch, with the access token if the origin is allowed to get it. If the token is rejected, the
      request is sent once more with a new one. */
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;
  /** Call `listener` at each change, in any tab of this origin. Returns a function that removes the listener. */
  readonly onChange: (listener: (change: Change) => void) => () => void;
  /** Discard the token and stop all work, for good: later calls reject with `client_closed`. The session stays live. */
  readonly close: () => void;
}

/** Create a client. An application needs one, for its whole life. Throws a `TypeError` if an option is wrong. */
export declare function createClient(options?: Options): Client;
