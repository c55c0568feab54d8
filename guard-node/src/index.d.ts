export interface Options {
  /** The public URL of the service, its TOKENAPP_ISSUER; https, except on loopback. */
  issuer: string
  /** The TOKENAPP_AUDIENCE of the service. */
  audience: string
  /** The longest lifetime of an accepted token in seconds; by default the one that the service publishes. */
  maxLifetime?: number | undefined
  /** Credentials of a client with the right `feed`. Without them revoked tokens are accepted until they expire. */
  clientId?: string | undefined
  clientSecret?: string | undefined
  /** Seconds between two reads of the feed: 1. */
  feedInterval?: number | undefined
  /** Seconds without a successful read of the feed after which requests get a 503: 10. */
  feedPatience?: number | undefined
  /** Called with the reason of a rejection, each at most once a minute; by default console.warn. */
  log?: ((message: string) => void) | undefined
}

export interface Principal {
  /** The id of the user. */
  readonly subject: string
  /** The id of the session or access key. */
  readonly session: string
  readonly username: string
  readonly roles: readonly string[]
  /** Those of an access key; a session has none. */
  readonly scopes: readonly string[]
  readonly amr: readonly string[]
  /** "2" after a sign-in with two factors or a passkey, otherwise "1". */
  readonly acr: string
  readonly claims: Readonly<Record<string, unknown>>
}

export interface Requirements {
  role?: string | undefined
  /** One scope, or several separated by spaces. */
  scope?: string | undefined
  acr?: '1' | '2' | undefined
}

export declare class AccessError extends Error {
  readonly status: number
  readonly code: string
  readonly problem: { type: string; title: string; status: number; detail: string; code: string }
  headers(realm: string): Record<string, string>
}

export declare class Guard {
  constructor(options: Options)
  readonly audience: string
  verify(token: string): Promise<Principal>
  authenticate(authorization: string | undefined): Promise<Principal>
  require(requirements?: Requirements): (authorization: string | undefined) => Promise<Principal>
  close(): void
}
