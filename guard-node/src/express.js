import { authorizationOf } from './authorization.js'
import { AccessError } from './index.js'

/** Return middleware for Express, Connect and node:http that requires a valid token and what `requirements` names. */
export function required(guard, requirements) {
  const require = guard.require(requirements)
  return async (request, response, next) => {
    try {
      request.principal = await require(authorizationOf(request.headers, request.rawHeaders))
    } catch (error) {
      // An application whose time limit has passed may have responded already.
      if (!(error instanceof AccessError) || response.headersSent) return next(error)
      response.writeHead(error.status, error.headers(guard.audience)).end(JSON.stringify(error.problem))
      return
    }
    next()
  }
}
