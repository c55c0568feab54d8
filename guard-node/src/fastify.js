import { authorizationOf } from './authorization.js'
import { AccessError } from './index.js'

/** Return a hook for `onRequest` that requires a valid token and what `requirements` names. */
export function required(guard, requirements) {
  const require = guard.require(requirements)
  return async (request, reply) => {
    try {
      request.principal = await require(authorizationOf(request.headers, request.raw.rawHeaders))
    } catch (error) {
      if (!(error instanceof AccessError)) throw error
      return reply.code(error.status).headers(error.headers(guard.audience)).send(JSON.stringify(error.problem))
    }
  }
}
