// Read the parts of a token strictly: one encoding, one meaning. The Python guard has the same rules in strict.py.

const MAX_TOKEN_BYTES = 8192
const MAX_DEPTH = 64
const PARTS = /"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[{}[\]:]/g
const WHOLE = /^-?[0-9]{1,15}$/
const TIMES = new Set(['iat', 'exp', 'nbf', 'auth_time'])

/** Decode the parts of a token in the compact form (RFC 7515, 3.1). Throws for a malformed one. */
export function split(token) {
  // The number of characters is that of bytes: decode() accepts ASCII only.
  if (token.length > MAX_TOKEN_BYTES) throw new SyntaxError('too long')
  const segments = token.split('.')
  if (segments.length !== 3) throw new SyntaxError('not three segments')
  const [header, payload] = segments.map(decode)
  return { header: jsonObject(header), payload }
}

/** Parse a JSON object without duplicate members, lone surrogates, deep nesting or times with a fraction. */
export function jsonObject(bytes) {
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  const value = JSON.parse(text)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new SyntaxError('not an object')
  scan(text)
  return value
}

/** Decode base64url without padding (RFC 7515, 2). */
function decode(segment) {
  const bytes = Buffer.from(segment, 'base64url')
  if (bytes.toString('base64url') !== segment) throw new SyntaxError('not canonical base64url')
  return bytes
}

/** Check what JSON.parse ignores, in a text that it accepted. */
function scan(text) {
  const open = [] // for each array null, for each object the names of its members
  let last = '' // the last string
  let name = '' // the member whose value follows
  for (const [part] of text.matchAll(PARTS)) {
    if (part === '{' || part === '[') {
      open.push(part === '{' ? new Set() : null)
      if (open.length > MAX_DEPTH) throw new SyntaxError('nested too deep')
    } else if (part === '}' || part === ']') {
      open.pop()
    } else if (part === ':') {
      name = last
      if (open.at(-1).has(name)) throw new SyntaxError('duplicate member')
      open.at(-1).add(name)
    } else if (part[0] === '"') {
      last = JSON.parse(part)
      if (!last.isWellFormed()) throw new SyntaxError('a lone surrogate')
    } else if (!Number.isFinite(Number(part)) || (open.length === 1 && TIMES.has(name) && !WHOLE.test(part))) {
      throw new SyntaxError('a number is too large, or a time is not in whole seconds')
    }
  }
}
