import express from 'express'
import fastify from 'fastify'
import { AccessError, Guard, type Principal } from 'tokenapp-guard'
import { required as forExpress } from 'tokenapp-guard/express'
import { required as forFastify } from 'tokenapp-guard/fastify'

const guard = new Guard({ issuer: 'https://login.example.com', audience: 'tokenapp-api', clientId: undefined })
express().get('/orders', forExpress(guard, { role: 'admin' }), (request, response) => {
  response.json({ for: request.principal?.username })
})
fastify().get('/orders', { onRequest: forFastify(guard, { acr: '2' }) }, async request => request.principal?.roles)
export const verified: Promise<Principal> = guard.verify('a token')
export const status = (error: unknown): number | null => (error instanceof AccessError ? error.status : null)
// @ts-expect-error there is no such level
guard.require({ acr: '3' })
