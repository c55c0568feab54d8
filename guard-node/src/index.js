// Verify access tokens of tokenapp: signature, issuer, audience, type, lifetime and, with credentials, revocation.

import { compactVerify } from 'jose'
import { MAX_AGE } from './cache.js'
import { Feed } from './feed.js'
import { FetchError } from './fetching.js'
import { keysOf, lifetimeOf } from './issuer.js'
import { jsonObject, split } from './strict.js'

const CLOCK_LEEWAY = 60
const LOG_INTERVAL = 60_000
const ID = /^[!-~]{1,128}$/
const INVALID = [403, 'access_token_invalid', 'Access token invalid or expired.']
const CHALLENGES = {
  access_token_invalid: 'invalid_token',
  insufficient_scope: 'insufficient_scope',
  insufficient_user_authentication: 'insufficient_user_authentication',
}

/** The request has no valid access token, or its token cannot be verified or does not suffice. */
export class AccessError extends Error {
  constructor(status, code, detail, parameters = {}) {
    super(detail)
    Object.assign(this, { status, code, parameters })
  }

  /** The body of the response, of the type application/problem+json. */
  get problem() {
    const title = this.code[0].toUpperCase() + this.code.slice(1).replaceAll('_', ' ')
    return { type: `urn:tokenapp:error:${this.code}`, title, status: this.status, detail: this.message, code: this.code }
  }

  /** The headers of the response (RFC 6750, 3). */
  headers(realm) {
    const type = { 'content-type': 'application/problem+json' }
    if (this.status === 503) return { ...type, 'retry-after': '1' }
    const error = CHALLENGES[this.code]
    const parameters = Object.entries({ realm, ...(error && { error }), ...this.parameters })
    return { ...type, 'www-authenticate': `Bearer ${parameters.map(([name, value]) => `${name}="${value}"`).join(', ')}` }
  }
}

class Rejected extends Error {}

export class Guard {
  #issuer
  #maxLifetime
  #keys
  #lifetime
  #feed
  #log
  #loggedAt = new Map()

  constructor({ issuer, audience, maxLifetime, clientId, clientSecret, feedInterval = 1, feedPatience = 10, log }) {
    if (!audience) throw new TypeError('audience is required')
    this.#issuer = issuer.replace(/\/+$/, '')
    this.audience = audience
    this.#maxLifetime = maxLifetime
    this.#keys = keysOf(this.#issuer)
    this.#lifetime = lifetimeOf(this.#issuer)
    this.#log = log ?? (message => console.warn(`tokenapp-guard: ${message}`))
    if (!clientId !== !clientSecret) throw new TypeError('clientId and clientSecret belong together')
    if (clientId && clientSecret) {
      // The published lifetime may have grown since it was fetched, MAX_AGE ago at most.
      const keep = async () => Math.max(await this.#longest(0), MAX_AGE) + CLOCK_LEEWAY
      this.#feed = new Feed(this.#issuer, clientId, clientSecret, { interval: feedInterval, patience: feedPatience, keep })
    }
  }

  /** Return the principal of `token`. Rejects with an AccessError: 403 if it is invalid, 503 if that is unknown. */
  async verify(token) {
    try {
      const claims = await this.#verified(token)
      // Removing a role revokes the id of the set of roles.
      if (await this.#feed?.isRevoked(claims.sid, claims.roles_id)) {
        throw new Rejected('the session, access key or role was revoked')
      }
      return principalOf(claims)
    } catch (error) {
      if (error instanceof FetchError) {
        this.#warn(error.message, error.cause)
        throw new AccessError(503, 'service_unavailable', error.message)
      }
      if (!(error instanceof Rejected)) throw error
      this.#warn(error.message)
      throw new AccessError(...INVALID)
    }
  }

  /** Return the principal of the token in an Authorization header. Rejects as verify(), and with 401 without a token. */
  async authenticate(authorization) {
    const [, token] = /^bearer (.*)$/is.exec((authorization ?? '').trim()) ?? []
    if (!token?.trim()) throw new AccessError(401, 'access_token_missing', 'Access token required.')
    return this.verify(token.trim())
  }

  /** Return a function that authenticates a header and checks the requirements: { role, scope, acr }. */
  require(requirements = {}) {
    const check = checkOf(requirements)
    return async authorization => {
      const principal = await this.authenticate(authorization)
      check(principal)
      return principal
    }
  }

  /** Stop following the feed. */
  close() {
    this.#feed?.close()
  }

  async #verified(token) {
    const { header, payload } = parsed(() => split(token))
    if (Object.keys(header).sort().join() !== 'alg,kid,typ' || header.typ !== 'at+jwt') {
      throw new Rejected('it is not an access token')
    }
    const keys = typeof header.kid === 'string' ? await this.#keys.get(known => known.has(header.kid)) : undefined
    const { alg, key } = keys?.get(header.kid) ?? {}
    if (alg === undefined || alg !== header.alg) throw new Rejected('the issuer does not have the key of the token')
    await compactVerify(token, key, { algorithms: [alg] }).catch(() => {
      throw new Rejected('the signature is invalid')
    })
    const claims = parsed(() => jsonObject(payload))
    await this.#check(claims)
    return claims
  }

  async #check(claims) {
    const now = Date.now() / 1000
    if (!hasTypes(claims) || claims.type !== 'access') throw new Rejected('it is not an access token')
    if (claims.iss !== this.#issuer) throw new Rejected("the token is another issuer's")
    if (claims.aud !== this.audience) throw new Rejected('the token is for another audience')
    if (claims.exp <= now) throw new Rejected('the token has expired')
    if (Math.max(claims.iat, claims.nbf ?? claims.iat) > now + CLOCK_LEEWAY) {
      throw new Rejected('the token was issued in the future: compare the clocks')
    }
    const lifetime = claims.exp - claims.iat
    if (lifetime <= 0 || lifetime > (await this.#longest(lifetime))) {
      throw new Rejected("the token lives longer than maxLifetime or the issuer's metadata allow")
    }
  }

  async #longest(atLeast) {
    if (this.#maxLifetime !== undefined) return this.#maxLifetime
    const seconds = await this.#lifetime.get(known => known >= atLeast)
    if (seconds === undefined) throw new FetchError('The metadata cannot be fetched at the moment.')
    return seconds
  }

  /** Log `reason`, unless it was logged within the last minute. */
  #warn(reason, cause) {
    const now = performance.now()
    if (now - (this.#loggedAt.get(reason) ?? -Infinity) < LOG_INTERVAL) return
    this.#loggedAt.set(reason, now)
    this.#log(`request rejected: ${reason}${cause ? ` (${cause.message})` : ''}`)
  }
}

function parsed(parse) {
  try {
    return parse()
  } catch {
    throw new Rejected('the token is malformed')
  }
}

/** Return whether the required claims are there, and all known claims have their type. */
function hasTypes(claims) {
  const is = type => name => typeof claims[name] === type
  const optional = (names, test) => names.every(name => !(name in claims) || test(name))
  const isTexts = name => Array.isArray(claims[name]) && claims[name].every(item => typeof item === 'string')
  return (
    ['sub', 'sid', 'jti'].every(name => is('string')(name) && ID.test(claims[name])) &&
    ['iss', 'aud', 'type', 'username'].every(is('string')) &&
    ['iat', 'exp'].every(is('number')) &&
    optional(['nbf', 'auth_time'], is('number')) &&
    optional(['acr', 'scope', 'roles_id'], is('string')) &&
    optional(['roles', 'amr'], isTexts)
  )
}

function principalOf(claims) {
  return Object.freeze({
    subject: claims.sub,
    session: claims.sid,
    username: claims.username,
    roles: claims.roles ?? [],
    scopes: words(claims.scope ?? ''),
    amr: claims.amr ?? [],
    acr: claims.acr ?? '1',
    claims,
  })
}

function checkOf({ role, scope, acr, ...others }) {
  const unknown = Object.keys(others).length > 0
  if (unknown || role === '' || (scope !== undefined && !words(scope).length) || ![undefined, '1', '2'].includes(acr)) {
    throw new TypeError('a role and a scope must not be empty, and acr is "1" or "2"')
  }
  return principal => {
    if (role !== undefined && !principal.roles.includes(role)) {
      throw new AccessError(403, 'insufficient_scope', `The role ${role} is required.`)
    }
    if (scope !== undefined && !words(scope).every(each => principal.scopes.includes(each))) {
      throw new AccessError(403, 'insufficient_scope', `The scope ${scope} is required.`, { scope })
    }
    if (acr !== undefined && !(['1', '2'].indexOf(principal.acr) >= ['1', '2'].indexOf(acr))) {
      const detail = 'A sign-in with a second factor or a passkey is required.'
      throw new AccessError(401, 'insufficient_user_authentication', detail, { acr_values: acr })
    }
  }
}

const words = text => text.split(/\s+/).filter(Boolean)
