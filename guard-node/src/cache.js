// Cache a document of the issuer, and limit how often it is fetched.

import { checkUrl, FetchError, fetchJson } from './fetching.js'

export const MAX_AGE = 300 // seconds
const FETCH_INTERVAL = 10_000
const RETRY_INTERVAL = 1000
const MAX_STALE = 86_400_000 // milliseconds for which a document is used while the issuer is unavailable

export class Cached {
  #url
  #what
  #parse
  #value
  #fault
  #fetching
  #freshUntil = -Infinity
  #nextFetch = -Infinity
  #fetchedAt = -Infinity

  /** What `parse` makes of the JSON object at `url`; `what` names it in errors. */
  constructor(url, what, parse) {
    checkUrl(url)
    this.#url = url
    this.#what = what
    this.#parse = parse
  }

  /** Return the value, which is fetched if it is stale or does not suffice; undefined if there is none. */
  async get(suffices) {
    const has = () => this.#value !== undefined && suffices(this.#value)
    // A request for which the value suffices does not wait for another request's fetch; others do.
    if (this.#isDue(has) && !(this.#fetching && has())) {
      await this.#fetching
      if (this.#isDue(has)) {
        this.#fetching ??= this.#fetch()
        await this.#fetching
      }
    }
    const usable = performance.now() - this.#fetchedAt < MAX_STALE
    if (this.#fault && !(usable && has())) {
      throw new FetchError(`${this.#what} cannot be fetched at the moment.`, { cause: this.#fault })
    }
    return usable ? this.#value : undefined
  }

  #isDue(has) {
    const now = performance.now()
    return now >= this.#nextFetch && (now >= this.#freshUntil || !has())
  }

  async #fetch() {
    const began = performance.now()
    try {
      const { document, maxAge } = await fetchJson(this.#url)
      this.#value = await this.#parse(document)
      this.#fetchedAt = began
      this.#freshUntil = began + Math.min(MAX_AGE, maxAge ?? MAX_AGE) * 1000
      this.#fault = undefined
      this.#nextFetch = performance.now() + FETCH_INTERVAL
    } catch (fault) {
      this.#fault = fault
      this.#nextFetch = performance.now() + RETRY_INTERVAL
    } finally {
      this.#fetching = undefined
    }
  }
}
