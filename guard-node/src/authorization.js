/** Return the Authorization header of a request. Node.js drops a second one; here both together are malformed. */
export function authorizationOf(headers, rawHeaders = []) {
  const given = rawHeaders.filter((_, index) => index % 2 && rawHeaders[index - 1].toLowerCase() === 'authorization')
  return given.length > 1 ? given.join(', ') : headers.authorization
}
