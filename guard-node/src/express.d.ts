import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Guard, Principal, Requirements } from './index.js'

declare global {
  namespace Express {
    interface Request {
      principal?: Principal
    }
  }
}

export declare function required(
  guard: Guard,
  requirements?: Requirements,
): (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => Promise<void>
