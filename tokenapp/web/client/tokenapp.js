/*
 * The browser client of tokenapp: signs users in and out, and calls APIs with their access token. No dependencies.
 *
 * The access token is kept in the memory of this module only. The refresh token is in a cookie, which scripts cannot
 * read. The tabs of a browser refresh one at a time under a Web Lock, and share the new token over a BroadcastChannel.
 * Both only reduce the number of requests, because simultaneous refreshes of a session get the same refresh token.
 */

export const VERSION = "0.1.0";

const REQUEST_TIMEOUT = 8000;
const LOCK_TIMEOUT = 3000; // a suspended tab may hold the lock for hours
const TAB_TIMEOUT = 50;
const MAX_ATTEMPTS = 5;
const FIRST_DELAY = 250;
const MAX_DELAY = 8000; // short enough to retry within the grace period after a response was lost
const MAX_REFRESH_MARGIN = 60_000;
const CLOCK_TOLERANCE = 60_000;
const REJECTION_MEMORY = 30_000;
const REPLACEMENT_DELAY = 100;
const TEMPORARY_STATUSES = new Set([0, 408, 425, 429, 500, 502, 503, 504]);
const SESSION_ENDED = /^refresh_token_/;
const COOKIE_REJECTED = /^refresh_token_(?!missing)/;

/** An error of the service; `status` is 0 if the service did not respond (`network_error`, `timeout`). */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null, options = undefined) {
    super(message, options);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Create a client of the service at `baseUrl`. It sends tokens to the service and to `origins` only. */
export function createClient({ baseUrl = defaultBaseUrl(), origins = [] } = {}) {
  const { origin, pathname } = new URL(baseUrl, globalThis.location?.href);
  const base = origin + pathname.replace(/\/+$/, "");
  return new Client(base, new Set([origin, ...origins.map((each) => new URL(each).origin)]));
}

/** Return the URL of the service that served this module as BASE/static/tokenapp.js. A copy of the module, or a bundle,
    belongs to a service on the origin of the page. */
function defaultBaseUrl() {
  const served = /^(https?:.*)\/static\/tokenapp(-[\d.]+)?\.js$/.exec(import.meta.url);
  return served ? served[1] : globalThis.location.origin;
}

class Client {
  #base;
  #allowedOrigins;
  #sharedName;
  #channel = null;
  #listeners = new Set();
  #token = null;
  #state = "unknown";
  // The time of the last sign-in or sign-out by this machine's clock. Tabs resolve conflicts by it: the latest wins.
  #epoch = 0;
  #endedSessions = new Set();
  #rejectedToken = null;
  #refreshing = null;
  #queue = Promise.resolve();
  #pendingSignIns = 0;
  #skipDelay = null;
  #rejectingOrigins = new Map();
  #paused = null;
  #pauseReason = null;
  #onTabResponse = null;
  #timer = undefined;
  #failures = 0;
  #isUsed = false;
  #closed = false;

  constructor(base, allowedOrigins) {
    this.#base = base;
    this.#allowedOrigins = allowedOrigins;
    this.#sharedName = `tokenapp ${base}`;
    if (globalThis.BroadcastChannel) {
      this.#channel = new BroadcastChannel(this.#sharedName);
      this.#channel.onmessage = ({ data }) => this.#receive(data ?? {});
      this.#channel.unref?.();
    }
    for (const [target, event] of this.#wakeEvents()) target?.addEventListener?.(event, this.#refreshIfDue);
  }

  /** The URL of the service, without a slash at its end. */
  get baseUrl() {
    return this.#base;
  }

  /** The user that the token names, or null. For display only, not for access control. */
  get user() {
    const claims = this.#token?.claims;
    return claims ? { id: claims.sub, username: claims.username, sessionId: claims.sid } : null;
  }

  /** "signed-in", "signed-out", or "unknown" until the service has responded. */
  get state() {
    return this.#state;
  }

  /** Return the signed-in user or null. While the service cannot be reached, `state` is "unknown". */
  async restore() {
    this.#isUsed = true;
    if (!isUsable(this.#token)) {
      await this.#refresh().catch((error) => {
        if (!TEMPORARY_STATUSES.has(error.status)) throw error;
        this.#scheduleRefresh();
      });
    }
    return this.user;
  }

  /** Sign in and return the user. */
  async signIn(username, password) {
    this.#pendingSignIns += 1;
    this.#skipDelay?.();
    return this.#enqueue(async () => {
      this.#pendingSignIns -= 1;
      return this.#withoutRefresh(async () => {
        const since = Date.now();
        const body = await this.#request("/api/login", { body: { username, password } });
        this.#acceptToken(tokenFrom(body, since), this.#nextEpoch());
        return this.user;
      });
    });
  }

  /** Get a fresh token with the password, for requests that need a recent authentication. A new session replaces the
      current one. */
  async reauthenticate(password) {
    await this.#replaceSession(async (bearer) => {
      const since = Date.now();
      return tokenFrom(await this.#request("/api/reauthenticate", { body: { password }, bearer }), since);
    });
  }

  /** Change the password. A new session replaces the current one, and all other sessions of the user end. */
  async changePassword(currentPassword, newPassword) {
    const body = { currentPassword, newPassword };
    await this.#replaceSession(async (bearer) => {
      await this.#request("/api/me/password", { method: "PUT", body, bearer, isEmpty: true });
      return null;
    });
  }

  /** Sign out in all tabs at once. Rejects if the service could not be reached: the session is then still live. */
  async signOut() {
    let bearer = this.#token?.value;
    this.#discardSession("signed-out", this.#nextEpoch());
    await this.#enqueue(async () => {
      if (this.#token) {
        bearer = this.#token.value; // of a sign-in that completed in the meantime
        this.#discardSession("signed-out", this.#nextEpoch());
      }
      await this.#sendLogout(bearer).catch((error) => {
        // A sign-in in any tab, with the cookie of this session, revokes it as well.
        if (!bearer || !this.#token) throw error;
      });
    });
  }

  /** Call the global fetch, with the access token if the origin is allowed to get it. */
  fetch = async (input, init) => {
    const request = new Request(input, init);
    const origin = new URL(request.url).origin;
    if (!this.#allowedOrigins.has(origin) || request.headers.has("Authorization")) return fetch(request);
    const owner = this.#token?.claims.sub;
    // Never send one user's request with another user's token.
    const own = (token) => (owner && token && token.claims.sub !== owner ? null : token);
    const token = own(await abortable(this.#currentToken(), request.signal));
    const spare = request.clone();
    const response = await send(request, token);
    if (!token || !(await rejectsToken(response))) return response;
    const next = own(await abortable(this.#replaceToken(token, origin), request.signal));
    if (!next) return response;
    response.body?.cancel().catch(() => null);
    const second = await send(spare, next);
    // Do not refresh at every call to an API that rejects all tokens.
    if (await rejectsToken(second)) this.#rejectingOrigins.set(origin, intervalOf(REJECTION_MEMORY));
    return second;
  };

  /** Call `listener({ user, reason })` when a user signs in ("signed-in"), signs out ("signed-out") or has to sign in
      again ("session-ended"), in any tab. Returns a function that removes the listener. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Discard the token and stop all work. The session stays live. */
  close() {
    this.#closed = true;
    this.#token = null;
    this.#state = "signed-out";
    this.#listeners.clear();
    clearTimeout(this.#timer);
    this.#channel?.close();
    this.#channel = null;
    for (const [target, event] of this.#wakeEvents()) target?.removeEventListener?.(event, this.#refreshIfDue);
  }

  // Tokens.

  async #currentToken() {
    if (this.#state === "signed-out" || isUsable(this.#token)) return this.#token;
    this.#isUsed = true;
    try {
      return await this.#refresh();
    } catch (error) {
      if (this.#token && Date.now() < this.#token.expires) return this.#token;
      throw error;
    }
  }

  /** Return a token that replaces a rejected one, or null if there is none. */
  async #replaceToken(token, origin) {
    if (this.#token === token) {
      if (isWithin(this.#rejectingOrigins.get(origin))) return null;
      this.#rejectedToken = token.value;
      await this.#refresh().catch(() => null);
    }
    return this.#token?.value === token.value ? null : this.#token;
  }

  #refresh() {
    this.#refreshing ??= this.#refreshWithLock().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refreshWithLock() {
    const epoch = this.#epoch;
    const isSettled = () => this.#closed || this.#epoch !== epoch || (isUsable(this.#token) && !this.#isRejected());
    return this.#withLock(async () => {
      if (!isSettled()) await this.#requestTokenFromTabs();
      if (!isSettled()) await this.#requestToken(isSettled);
      return this.#token;
    });
  }

  async #requestToken(isSettled) {
    if (isWithin(this.#paused)) throw this.#pauseReason;
    const known = this.#epoch;
    let since;
    let isRepeated = false;
    const post = () => {
      since = Date.now();
      return this.#request("/api/token");
    };
    // Another tab may just have replaced the session and its cookie. The second request has the new cookie.
    const postAgain = async (error) => {
      if (isRepeated || !COOKIE_REJECTED.test(error.code)) throw error;
      isRepeated = true;
      await sleep(REPLACEMENT_DELAY);
      if (isSettled()) throw error;
      return post();
    };
    try {
      const body = await retry(
        () => post().catch(postAgain),
        () => !isSettled(),
      );
      // The epoch is the time of the request, so a sign-in or sign-out during the request takes precedence.
      if (!this.#closed) this.#acceptToken(tokenFrom(body, since), Math.max(known, since));
    } catch (error) {
      if (isSettled()) return;
      this.#failures += 1;
      if (SESSION_ENDED.test(error.code)) return this.#discardSession("session-ended", known);
      this.#pause(error);
      throw error;
    }
  }

  /** Let the service replace the session: `call(bearer)` returns the token of the new session, or null. */
  #replaceSession(call) {
    const owner = this.#token?.claims.sub;
    const own = (token) => (owner && token?.claims.sub !== owner ? null : token);
    return this.#enqueue(async () => {
      const token = own(await this.#currentToken());
      try {
        await this.#replaceSessionOf(token, call);
      } catch (error) {
        if (!token || error.code !== "access_token_invalid") throw error;
        const next = own(await this.#replaceToken(token, new URL(this.#base).origin));
        if (!next) throw error;
        await this.#replaceSessionOf(next, call);
      }
    });
  }

  async #replaceSessionOf(token, call) {
    const epoch = this.#epoch;
    // The session may have been reported as ended, because it was replaced. A sign-out changes the epoch.
    const isCurrent = () => this.#epoch === epoch || this.#token?.claims.sub === token.claims.sub;
    const next = await this.#withoutRefresh(async () => {
      const fresh = await call(token?.value);
      if (fresh && isCurrent()) this.#acceptToken(fresh, this.#nextEpoch());
      return fresh;
    });
    if (this.#closed) return;
    if (!isCurrent()) {
      // The user signed out in another tab, possibly before the new session was opened.
      if (!this.#token) await this.#sendLogout(next?.value).catch(() => null);
    } else if (!next) {
      this.#rejectedToken = token.value;
      await this.#refresh().catch(() => this.#scheduleRefresh());
    }
  }

  /** Revoke the session at the service. Retries stop when a user signs in, whose session they would revoke. */
  async #sendLogout(bearer) {
    const skipDelay = new Promise((resolve) => {
      this.#skipDelay = resolve;
    });
    const isWanted = () => !this.#token && !this.#pendingSignIns;
    const post = () => this.#request("/api/logout", { bearer, isEmpty: true });
    const postIfWanted = (failure) => (isWanted() ? post() : Promise.reject(failure));
    // The first attempt takes no lock, because the page may be closed at any moment. Retries wait for sign-ins.
    const attempt = (failure) => (failure ? this.#withLock(() => postIfWanted(failure)) : post());
    await retry(attempt, isWanted, skipDelay);
  }

  #acceptToken(token, epoch, { broadcast = true } = {}) {
    const { sid } = token.claims;
    const current = this.#token;
    const isSame = current?.claims.sid === sid;
    const isSameUser = current?.claims.sub === token.claims.sub;
    if (this.#endedSessions.has(sid) || token.value === this.#rejectedToken) return;
    if (isSame ? token.since < current.since && isUsable(current) : epoch < this.#epoch) return;
    this.#epoch = Math.max(this.#epoch, epoch);
    this.#token = token;
    this.#state = "signed-in";
    this.#failures = 0;
    this.#scheduleRefresh();
    if (broadcast) this.#broadcastToken();
    if (!isSameUser) this.#emit("signed-in");
  }

  #discardSession(reason, epoch, { sid = this.#token?.claims.sid, broadcast = true } = {}) {
    const before = this.#state;
    if (sid) this.#endedSessions.add(sid);
    this.#epoch = Math.max(this.#epoch, epoch);
    this.#token = null;
    this.#state = "signed-out";
    clearTimeout(this.#timer);
    if (broadcast) this.#channel?.postMessage({ kind: "left", reason, epoch, sid });
    if (before !== "signed-out") this.#emit(before === "unknown" ? "signed-out" : reason);
  }

  #isRejected() {
    return this.#token?.value === this.#rejectedToken;
  }

  #nextEpoch() {
    return Math.max(Date.now(), this.#epoch + 1);
  }

  #emit(reason) {
    for (const listener of [...this.#listeners]) {
      try {
        listener({ user: this.user, reason });
      } catch (error) {
        globalThis.reportError?.(error);
      }
    }
  }

  // Other tabs.

  #broadcastToken() {
    const { value, since, expires } = this.#token;
    this.#channel?.postMessage({ kind: "token", epoch: this.#epoch, value, since, expires });
  }

  /** Ask the other tabs for a usable token, and wait briefly for a response. */
  async #requestTokenFromTabs() {
    if (!this.#channel) return;
    const response = new Promise((resolve) => {
      this.#onTabResponse = resolve;
    });
    this.#channel.postMessage({ kind: "ask" });
    await Promise.race([response, sleep(TAB_TIMEOUT)]);
  }

  #receive({ kind, reason, epoch, sid, value, since, expires }) {
    if (kind === "ask" && isUsable(this.#token) && !this.#isRejected()) this.#broadcastToken();
    if (kind === "token") {
      this.#acceptToken({ value, since, expires, claims: decodeClaims(value) }, epoch, { broadcast: false });
    }
    if (kind === "left") {
      const isOurs = this.#token?.claims.sid === sid;
      const isLater = reason === "signed-out" && epoch >= this.#epoch;
      if (sid) this.#endedSessions.add(sid);
      if (isOurs || isLater) this.#discardSession(reason, epoch, { broadcast: false });
    }
    if (kind !== "ask") this.#onTabResponse?.();
  }

  /** Do `work` while no refresh is in progress, whose response would overwrite the cookie that `work` gets. */
  async #withoutRefresh(work) {
    await Promise.race([this.#refreshing?.catch(() => null), sleep(this.#refreshing ? LOCK_TIMEOUT : 0)]);
    return this.#withLock(work);
  }

  /** Do `work` under the lock that all tabs share, or without it if the lock is not free in time. */
  async #withLock(work) {
    let hasBegun = false;
    const begin = () => {
      hasBegun = true;
      return work();
    };
    const { locks } = globalThis.navigator ?? {};
    if (!locks) return begin();
    try {
      return await locks.request(this.#sharedName, { signal: AbortSignal.timeout(LOCK_TIMEOUT) }, begin);
    } catch (error) {
      if (hasBegun) throw error;
      return begin();
    }
  }

  /** Run the sign-ins and sign-outs of this tab one after the other, in the order of the calls. */
  #enqueue(work) {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => null);
    return result;
  }

  // Time.

  #wakeEvents() {
    return [
      [globalThis.document, "visibilitychange"],
      [globalThis.window, "online"],
      [globalThis.window, "pageshow"],
    ];
  }

  #scheduleRefresh() {
    clearTimeout(this.#timer);
    const delay = Math.min(300_000, 10_000 * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    const due = this.#failures || !this.#token ? delay : this.#token.expires - refreshMargin(this.#token) - Date.now();
    this.#timer = setTimeout(this.#refreshIfDue, Math.min(Math.max(due, 0), 2 ** 31 - 1));
    this.#timer.unref?.();
  }

  /** Refresh if the token is about to expire. Hidden pages wait until they are shown or call an API. */
  #refreshIfDue = () => {
    const isWanted = this.#state === "signed-in" || (this.#state === "unknown" && this.#isUsed);
    if (this.#closed || !isWanted || globalThis.document?.visibilityState === "hidden") return;
    if (isUsable(this.#token)) this.#scheduleRefresh();
    else this.#refresh().catch(() => this.#scheduleRefresh());
  };

  /** Send no refresh for as long as the service requests, or for ten seconds after an unexpected error. */
  #pause(error) {
    const seconds = error.retryAfter ?? (TEMPORARY_STATUSES.has(error.status) ? 0 : 10);
    this.#paused = intervalOf(seconds * 1000);
    this.#pauseReason = error;
  }

  /** Send one request to the service, without retries. */
  async #request(path, { method = "POST", body, bearer, isEmpty = false } = {}) {
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    try {
      const response = await fetch(this.#base + path, {
        method,
        headers,
        body: body && JSON.stringify(body),
        credentials: "include",
        cache: "no-store",
        redirect: "error",
        keepalive: true, // the browser stores the new cookie even if the page is closed during the request
        signal: AbortSignal.timeout(REQUEST_TIMEOUT),
      });
      return await readBody(response, isEmpty);
    } catch (error) {
      throw connectionError(error);
    }
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}

/** Repeat `call` after temporary errors while `isWanted()`, with increasing delays of at least `Retry-After`.
    When `skipDelay` resolves, the current delay ends. */
async function retry(call, isWanted, skipDelay) {
  let failure = null;
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await call(failure);
    } catch (error) {
      failure = error;
      const delay = Math.max((error.retryAfter ?? 0) * 1000, FIRST_DELAY * 2 ** (attempts - 1));
      const isPermanent = !TEMPORARY_STATUSES.has(error.status) || globalThis.navigator?.onLine === false;
      if (isPermanent || attempts === MAX_ATTEMPTS || delay > MAX_DELAY || !isWanted()) throw error;
      await Promise.race([sleep(delay * (1 + Math.random() / 4)), skipDelay].filter(Boolean));
      if (!isWanted()) throw error;
    }
  }
}

/** Return a promise that settles like `promise`, or rejects when `signal` aborts. The work itself is not cancelled. */
function abortable(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function send(request, token) {
  if (token) request.headers.set("Authorization", `Bearer ${token.value}`);
  return fetch(request);
}

async function readJson(response) {
  if (!/[/+]json\b/.test(response.headers.get("Content-Type") ?? "")) return {};
  return (await response.json().catch(() => null)) ?? {};
}

/** Return the body of a successful response: a token or, if `isEmpty`, nothing. A response that the service did not
    send, such as the sign-in page of a captive portal, is a network error. */
async function readBody(response, isEmpty = false) {
  const body = await readJson(response);
  if (isEmpty ? response.status === 204 : response.ok && typeof body.accessToken === "string") return body;
  if (response.ok) throw new ApiError(0, "network_error", "The response did not come from the service.");
  const message = body.message ?? `The service responded with status ${response.status}.`;
  const retryAfter = parseRetryAfter(response.headers.get("Retry-After"));
  throw new ApiError(response.status, body.code ?? "unknown", message, retryAfter);
}

function connectionError(error) {
  if (error instanceof ApiError) return error;
  const code = error.name === "TimeoutError" ? "timeout" : "network_error";
  return new ApiError(0, code, "The service cannot be reached.", null, { cause: error });
}

/** Return the seconds until the time of a Retry-After header, which is a number of seconds or a date. */
function parseRetryAfter(text) {
  const seconds = /^\d+$/.test(text ?? "") ? Number(text) : (Date.parse(text ?? "") - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

/** Whether the error means that the token was rejected, and not the request. */
async function rejectsToken(response) {
  if (response.status !== 401 && response.status !== 403) return false;
  if (/\berror="?invalid_token\b/i.test(response.headers.get("WWW-Authenticate") ?? "")) return true;
  return (await readJson(response.clone())).code === "access_token_invalid";
}

/** Build a token from a response to a request sent at `since`. It expires by this machine's clock only. */
function tokenFrom({ accessToken, expiresIn }, since) {
  return { value: accessToken, claims: decodeClaims(accessToken), since, expires: since + expiresIn * 1000 };
}

function decodeClaims(value) {
  const text = atob(value.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (each) => each.charCodeAt(0))));
}

/** Return the interval that starts now and lasts `milliseconds`. */
function intervalOf(milliseconds) {
  const from = Date.now();
  return { from, until: from + milliseconds };
}

/** Whether it is now within the interval. It starts in the future if the clock was set back: then it does not count. */
function isWithin(interval) {
  const now = Date.now();
  return Boolean(interval) && interval.from <= now && now < interval.until;
}

function refreshMargin({ since, expires }) {
  return Math.min(MAX_REFRESH_MARGIN, (expires - since) / 5);
}

/** Whether a token is valid for a while longer. One from the future means that the clock was set back. */
function isUsable(token) {
  const now = Date.now();
  return token !== null && now < token.expires - refreshMargin(token) && now > token.since - CLOCK_TOLERANCE;
}
