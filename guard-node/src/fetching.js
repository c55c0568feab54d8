// Fetch JSON from the service: https only, no redirects, limited time and size.

const TIMEOUT = 3000
const MAX_BYTES = 4 << 20
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]'])
const MAX_AGE = /(?:^|[\s,])max-age=([0-9]{1,9})(?:$|[\s,])/i

/** The service did not respond, or not with what was expected. */
export class FetchError extends Error {}

/** Check that `url` is https, or http on loopback. */
export function checkUrl(url) {
  const { protocol, hostname } = URL.canParse(url) ? new URL(url) : {}
  if (protocol !== 'https:' && !(protocol === 'http:' && LOOPBACK.has(hostname))) {
    throw new TypeError('the issuer must be https, or http on loopback')
  }
}

/** Return the JSON object at `url`, and the max-age of the response in seconds, if it has one. */
export async function fetchJson(url, headers = {}) {
  let document
  let response
  try {
    response = await fetch(url, { headers, redirect: 'error', signal: AbortSignal.timeout(TIMEOUT) })
    document = response.status === 200 ? JSON.parse(await text(response)) : null
    if (response.status !== 200) await response.body?.cancel()
  } catch (fault) {
    throw new FetchError(`${url}: ${fault.cause?.message ?? fault.message}`, { cause: fault })
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new FetchError(`${url} returned ${response.status} and no JSON object`)
  }
  const maxAge = MAX_AGE.exec(response.headers.get('cache-control') ?? '')
  return { document, maxAge: maxAge && Number(maxAge[1]) }
}

async function text(response) {
  const chunks = []
  let size = 0
  for await (const chunk of response.body) {
    size += chunk.length
    if (size > MAX_BYTES) throw new RangeError('the response is too large')
    chunks.push(chunk)
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
}
