import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Guard, Principal, Requirements } from './index.js'

declare module 'fastify' {
  interface FastifyRequest {
    principal?: Principal
  }
}

export declare function required(
  guard: Guard,
  requirements?: Requirements,
): (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
