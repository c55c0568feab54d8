// Follow the service's feed of revoked sessions, access keys and roles.

import { FetchError, fetchJson } from './fetching.js'

export class Feed {
  #headers
  #url
  #interval
  #patience
  #keep
  #seenAt = new Map()
  #cursor
  #fault
  #readAt = -Infinity
  #started
  #following
  #timer

  /** The ids that were recently revoked; each is kept for `await keep()` seconds, when its last token has expired. */
  constructor(issuer, clientId, clientSecret, { interval, patience, keep }) {
    const credentials = Buffer.from(`${clientId}:${clientSecret}`).toString('base64')
    this.#headers = { authorization: `Basic ${credentials}` }
    this.#url = `${issuer}/api/revocations`
    this.#interval = interval * 1000
    this.#patience = patience * 1000
    this.#keep = keep
  }

  /** Return whether one of `ids` was revoked. Throws a FetchError if the feed was not read within `patience`. */
  async isRevoked(...ids) {
    this.#started ??= this.#follow()
    await this.#started
    if (performance.now() - this.#readAt > this.#patience) {
      throw new FetchError('Revoked sessions cannot be fetched at the moment.', { cause: this.#fault })
    }
    return ids.some(id => this.#seenAt.has(id))
  }

  /** Stop following; the next call of isRevoked() starts again. */
  close() {
    clearTimeout(this.#timer)
    this.#started = this.#following = undefined
  }

  async #follow() {
    const following = (this.#following = {}) // close() replaces it
    await this.#read()
    if (this.#following !== following) return
    this.#timer = setTimeout(() => this.#follow(), this.#interval)
    this.#timer.unref()
  }

  /** Read the feed to its end; after a failure, the next call continues from the same cursor. */
  async #read() {
    const began = performance.now()
    try {
      while (await this.#readPage());
      this.#readAt = began
      const oldest = began - (await this.#keep()) * 1000
      for (const [id, seen] of this.#seenAt) if (seen <= oldest) this.#seenAt.delete(id)
    } catch (fault) {
      this.#fault = fault
    }
  }

  async #readPage() {
    const query = this.#cursor ? `?since=${encodeURIComponent(this.#cursor)}` : ''
    const { items, cursor, more } = (await fetchJson(this.#url + query, this.#headers)).document
    const ids = items.map(({ sid }) => sid)
    const typed = [...ids, cursor].every(text => typeof text === 'string') && typeof more === 'boolean'
    if (!typed || !/^[ -~]*$/.test(cursor) || (more && cursor === this.#cursor)) {
      throw new TypeError('the feed is malformed')
    }
    for (const id of ids) if (!this.#seenAt.has(id)) this.#seenAt.set(id, performance.now())
    this.#cursor = cursor
    return more
  }
}
