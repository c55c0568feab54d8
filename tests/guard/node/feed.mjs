// Prints whether an id on the feed is remembered, if ids are kept for some seconds: node feed.mjs ISSUER ID SECONDS.
import { Feed } from './src/feed.js'

const [issuer, id, seconds] = process.argv.slice(2)
const feed = new Feed(issuer, 'client-x', 'x', { interval: 60, patience: 60, keep: async () => Number(seconds) })
console.log(await feed.isRevoked(id))
