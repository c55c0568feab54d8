// Prints what a cached document is worth when its issuer has been away for almost a day, and for more than a day.
import { createServer } from 'node:http'
import { Cached } from './src/cache.js'

const DAY = 86_400_000
const now = performance.now.bind(performance)
const server = createServer((request, response) => response.end('{"value": "known"}'))
await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
const cached = new Cached(`http://127.0.0.1:${server.address().port}/`, 'The document', ({ value }) => value)
await cached.get(() => true)
server.close()
server.closeAllConnections()
for (const passed of [DAY - 60_000, DAY + 60_000]) {
  performance.now = () => now() + passed
  console.log(await cached.get(() => true).catch(error => error.message))
}
