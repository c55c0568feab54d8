// What the service publishes: its keys, and how long its access tokens live.

import { importJWK } from 'jose'
import { Cached } from './cache.js'

const ALGORITHMS = new Set(['ES256', 'RS256', 'EdDSA'])
const DEFAULT_LIFETIME = 900 // of services before 0.2, which do not publish it

/** The key set of an issuer: its keys with their algorithms, by `kid`. */
export const keysOf = issuer => new Cached(`${issuer}/.well-known/jwks.json`, 'Keys', usableKeys)

/** The lifetime of access tokens in seconds, from the metadata of an issuer (RFC 8414). */
export const lifetimeOf = issuer =>
  new Cached(`${issuer}/.well-known/oauth-authorization-server`, 'The metadata', document => {
    const { tokenapp_access_token_lifetime: seconds = DEFAULT_LIFETIME } = document
    if (document.issuer !== issuer || !Number.isInteger(seconds)) throw new TypeError("the metadata is another issuer's")
    return seconds
  })

async function usableKeys({ keys }) {
  const usable = await Promise.all([...keys].map(usableKey))
  return new Map(usable.filter(Boolean))
}

/** Import a key; one that cannot be used does not affect the others of its set. */
async function usableKey(jwk) {
  try {
    const { alg, kid, use = 'sig' } = jwk
    if (!ALGORITHMS.has(alg) || use !== 'sig' || typeof kid !== 'string') return null
    return [kid, { alg, key: await importJWK(jwk, alg) }]
  } catch {
    return null
  }
}
