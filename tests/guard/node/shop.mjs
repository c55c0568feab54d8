// An application on the loopback address: node shop.mjs express|fastify '{"issuer": …}'. It prints its port.
import express from 'express'
import fastify from 'fastify'
import { Guard } from 'tokenapp-guard'
import { required as forExpress } from 'tokenapp-guard/express'
import { required as forFastify } from 'tokenapp-guard/fastify'

const [kind, options] = process.argv.slice(2)
const guard = new Guard(JSON.parse(options))
const views = {
  '/orders': undefined,
  '/admin': { role: 'admin' },
  '/export': { scope: 'orders:read orders:export' },
  '/payment': { acr: '2' },
}
if (kind === 'express') {
  const app = express()
  for (const [path, requirements] of Object.entries(views)) {
    app.get(path, forExpress(guard, requirements), (request, response) => response.json({ for: request.principal.username }))
  }
  const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port))
} else {
  const app = fastify()
  for (const [path, requirements] of Object.entries(views)) {
    app.get(path, { onRequest: forFastify(guard, requirements) }, async request => ({ for: request.principal.username }))
  }
  await app.listen({ port: 0, host: '127.0.0.1' })
  console.log(app.server.address().port)
}
