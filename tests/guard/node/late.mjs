// An Express application whose time limit responds before the guard does: node late.mjs ISSUER. It prints the status and
// the error that Express gets.
import express from 'express'
import { Guard } from 'tokenapp-guard'
import { required } from 'tokenapp-guard/express'

const app = express()
const guard = new Guard({ issuer: process.argv[2], audience: 'tokenapp-api', log() {} })
app.use((request, response, next) => {
  response.status(504).end()
  next()
})
app.get('/', required(guard))
app.use((error, request, response, next) => console.log(error.code))
const server = app.listen(0, '127.0.0.1', async () => {
  const response = await fetch(`http://127.0.0.1:${server.address().port}/`)
  console.log(response.status)
  server.close()
})
