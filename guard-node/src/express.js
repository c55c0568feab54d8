import { AccessError } from './index.js'

/** Return middleware for Express, Connect and node:http that requires a valid token and what `requirements` names. */
export function required(guard, requirements) {
  const require = guard.require(requirements)
  return async (request, response, next) => {
    try {
      request.principal = await require(request.headers.authorization)
    } catch (error) {
      if (!(error instanceof AccessError)) return next(error)
      response.writeHead(error.status, error.headers(guard.audience)).end(JSON.stringify(error.problem))
      return
    }
    next()
  }
}
