/*
 * The browser client of tokenapp: signs people in and out, and calls APIs for them. No dependencies.
 *
 * The access token is in this module's memory and nowhere else; the refresh token is in a cookie that no script sees.
 * Tabs of one browser refresh one at a time where they have Web Locks, and hand each other what they got over a
 * BroadcastChannel. Both only save requests: the service gives all of a session's refreshes at once the same answer.
 */

export const VERSION = "0.1.0";

const REQUEST_TIMEOUT = 8000;
const LOCK_PATIENCE = 3000; // a tab that sleeps may hold the lock for hours
const ASK_PATIENCE = 50;
const TRIES = 5;
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 8000; // so that a lost answer is asked for again while the service still gives it
const LONGEST_MARGIN = 60_000;
const CLOCK_TOLERANCE = 60_000;
const STUBBORN_FOR = 30_000;
const TEMPORARY = new Set([0, 408, 425, 429, 500, 502, 503, 504]);
const SESSION_OVER = /^refresh_token_/;

/** A refusal of the service; `status` is 0 where there was no answer of its own (`network_error`, `timeout`). */
export class ApiError extends Error {
  constructor(status, code, message, retryAfter = null, options = undefined) {
    super(message, options);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Make a client of the service at `baseUrl`, whose tokens go there and to `origins` alone. */
export function createClient({ baseUrl, origins = [] } = {}) {
  const base = new URL(baseUrl ?? globalThis.location.href, globalThis.location?.href).origin;
  return new Client(base, new Set([base, ...origins.map((each) => new URL(each).origin)]));
}

class Client {
  #base;
  #admitted;
  #name;
  #channel = null;
  #listeners = new Set();
  #token = null;
  #state = "unknown";
  // When, by this machine's clock, somebody last signed in or out. Of two states the later one holds, in every tab.
  #epoch = 0;
  #ended = new Set();
  #refused = null;
  #refreshing = null;
  #signing = Promise.resolve();
  #comers = 0;
  #hurry = null;
  #stubborn = new Map();
  #paused = null;
  #pauseReason = null;
  #awaited = null;
  #timer = undefined;
  #failures = 0;
  #asked = false;
  #closed = false;

  constructor(base, admitted) {
    this.#base = base;
    this.#admitted = admitted;
    this.#name = `tokenapp ${base}`;
    if (globalThis.BroadcastChannel) {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#receive(data ?? {});
      this.#channel.unref?.();
    }
    for (const [target, event] of this.#signals()) target?.addEventListener?.(event, this.#check);
  }

  /** The service's origin. */
  get baseUrl() {
    return this.#base;
  }

  /** Who is signed in, as the token says: to be shown, and not to be relied upon. */
  get user() {
    const claims = this.#token?.claims;
    return claims ? { id: claims.sub, username: claims.username, sessionId: claims.sid } : null;
  }

  /** "signed-in", "signed-out", or "unknown" as long as the service has not been asked or has not answered. */
  get state() {
    return this.#state;
  }

  /** Find out who is signed in. Gives null, too, while the service cannot be reached: `state` is "unknown" then. */
  async restore() {
    this.#asked = true;
    if (!usable(this.#token)) {
      await this.#refresh().catch((error) => {
        if (!TEMPORARY.has(error.status)) throw error;
        this.#schedule();
      });
    }
    return this.user;
  }

  async signIn(username, password) {
    this.#comers += 1;
    this.#hurry?.();
    return this.#inTurn(async () => {
      this.#comers -= 1;
      await Promise.race([this.#refreshing?.catch(() => null), sleep(this.#refreshing ? LOCK_PATIENCE : 0)]);
      return this.#alone(async () => {
        const since = Date.now();
        const answer = await this.#post("/api/login", { body: { username, password } });
        this.#adopt(tokenOf(answer, since), this.#nextEpoch());
        return this.user;
      });
    });
  }

  /** Give the password again, for what only a person who did so lately may do. */
  async reauthenticate(password) {
    const since = Date.now();
    const owner = this.#token?.claims.sid;
    const response = await this.fetch(`${this.#base}/api/reauthenticate`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ password }),
      cache: "no-store",
      signal: AbortSignal.timeout(3 * REQUEST_TIMEOUT),
    }).catch((error) => {
      throw unreached(error);
    });
    // The call may have refreshed first; what it brought is newer still.
    const token = tokenOf(await answerOf(response), Math.max(since, this.#token?.since ?? 0));
    if (token.claims.sid === owner) this.#adopt(token, this.#epoch);
  }

  /** Sign out, here and in all tabs, at once. Rejects if the service could not be told: the session goes on there. */
  async signOut() {
    let bearer = this.#token?.value;
    this.#leave("signed-out", this.#nextEpoch());
    await this.#inTurn(async () => {
      if (this.#token) {
        bearer = this.#token.value; // of a sign-in that was under way
        this.#leave("signed-out", this.#nextEpoch());
      }
      await this.#end(bearer).catch((error) => {
        // A session ends, too, when somebody signs in with its cookie, in whichever tab.
        if (!bearer || !this.#token) throw error;
      });
    });
  }

  /** Like the global fetch, with the access token, to those origins that may have it. */
  fetch = async (input, init) => {
    const request = new Request(input, init);
    const origin = new URL(request.url).origin;
    if (!this.#admitted.has(origin) || request.headers.has("Authorization")) return fetch(request);
    const owner = this.#token?.claims.sub;
    // What one person asked for is never asked in another's name.
    const own = (token) => (owner && token && token.claims.sub !== owner ? null : token);
    const token = own(await unlessAborted(this.#current(), request.signal));
    const spare = request.clone();
    const response = await send(request, token);
    if (!token || !(await refusesToken(response))) return response;
    const next = own(await unlessAborted(this.#replacement(token, origin), request.signal));
    if (!next) return response;
    response.body?.cancel().catch(() => null);
    const second = await send(spare, next);
    // An API that refuses whatever we have is not worth a refresh at every call.
    if (await refusesToken(second)) this.#stubborn.set(origin, spanOf(STUBBORN_FOR));
    return second;
  };

  /** Call `listener({user, reason})` when somebody signs in ("signed-in"), signs out ("signed-out") or has to sign in
      anew ("session-ended"), in whichever tab; give what ends this. */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Forget the token and be of no more use; the session goes on. */
  close() {
    this.#closed = true;
    this.#token = null;
    this.#state = "signed-out";
    this.#listeners.clear();
    clearTimeout(this.#timer);
    this.#channel?.close();
    this.#channel = null;
    for (const [target, event] of this.#signals()) target?.removeEventListener?.(event, this.#check);
  }

  // Tokens.

  async #current() {
    if (this.#state === "signed-out" || usable(this.#token)) return this.#token;
    this.#asked = true;
    try {
      return await this.#refresh();
    } catch (error) {
      if (this.#token && Date.now() < this.#token.expires) return this.#token;
      throw error;
    }
  }

  /** Give a token in the place of one that was refused, or null where there is none to be had. */
  async #replacement(token, origin) {
    if (this.#token === token) {
      if (isNow(this.#stubborn.get(origin))) return null;
      this.#refused = token.value;
      await this.#refresh().catch(() => null);
    }
    return this.#token?.value === token.value ? null : this.#token;
  }

  #refresh() {
    this.#refreshing ??= this.#renew().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #renew() {
    const epoch = this.#epoch;
    const isSettled = () => this.#closed || this.#epoch !== epoch || (usable(this.#token) && !this.#isRefused());
    return this.#alone(async () => {
      if (!isSettled()) await this.#ask();
      if (!isSettled()) await this.#obtain(isSettled);
      return this.#token;
    });
  }

  async #obtain(isSettled) {
    if (isNow(this.#paused)) throw this.#pauseReason;
    const known = this.#epoch;
    let since;
    try {
      const answer = await persistently(
        () => {
          since = Date.now();
          return this.#post("/api/token");
        },
        () => !isSettled(),
      );
      // What this browser was when we asked: older than any sign-in or sign-out that has come between.
      if (!this.#closed) this.#adopt(tokenOf(answer, since), Math.max(known, since));
    } catch (error) {
      if (isSettled()) return;
      this.#failures += 1;
      if (SESSION_OVER.test(error.code)) return this.#leave("session-ended", known);
      this.#pause(error);
      throw error;
    }
  }

  /** End the session at the service; but not, with a late try, that of somebody who has signed in since. */
  async #end(bearer) {
    const hurried = new Promise((resolve) => {
      this.#hurry = resolve;
    });
    const isWanted = () => !this.#token && !this.#comers;
    const tell = () => this.#post("/api/logout", { bearer });
    const tellStill = (failure) => (isWanted() ? tell() : Promise.reject(failure));
    // The first try waits for nobody: the page may be left at any moment. Others wait for sign-ins that are under way.
    const next = (failure) => (failure ? this.#alone(() => tellStill(failure)) : tell());
    await persistently(next, isWanted, hurried);
  }

  #adopt(token, epoch, { tell = true } = {}) {
    const { sid } = token.claims;
    const current = this.#token;
    const isSame = current?.claims.sid === sid;
    if (this.#ended.has(sid) || token.value === this.#refused) return;
    if (isSame ? token.since < current.since && usable(current) : epoch < this.#epoch) return;
    this.#epoch = Math.max(this.#epoch, epoch);
    this.#token = token;
    this.#state = "signed-in";
    this.#failures = 0;
    this.#schedule();
    if (tell) this.#tell();
    if (!isSame) this.#emit("signed-in");
  }

  #leave(reason, epoch, { sid = this.#token?.claims.sid, tell = true } = {}) {
    const before = this.#state;
    if (sid) this.#ended.add(sid);
    this.#epoch = Math.max(this.#epoch, epoch);
    this.#token = null;
    this.#state = "signed-out";
    clearTimeout(this.#timer);
    if (tell) this.#channel?.postMessage({ kind: "left", reason, epoch, sid });
    if (before !== "signed-out") this.#emit(before === "unknown" ? "signed-out" : reason);
  }

  #isRefused() {
    return this.#token?.value === this.#refused;
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

  #tell() {
    const { value, since, expires } = this.#token;
    this.#channel?.postMessage({ kind: "token", epoch: this.#epoch, value, since, expires });
  }

  /** Ask the other tabs for a good token, and give them a moment to answer. */
  async #ask() {
    if (!this.#channel) return;
    const answer = new Promise((resolve) => {
      this.#awaited = resolve;
    });
    this.#channel.postMessage({ kind: "ask" });
    await Promise.race([answer, sleep(ASK_PATIENCE)]);
  }

  #receive({ kind, reason, epoch, sid, value, since, expires }) {
    if (kind === "ask" && usable(this.#token) && !this.#isRefused()) this.#tell();
    if (kind === "token") this.#adopt({ value, since, expires, claims: claimsOf(value) }, epoch, { tell: false });
    if (kind === "left") {
      const isOurs = this.#token?.claims.sid === sid;
      const isLater = reason === "signed-out" && epoch >= this.#epoch;
      if (sid) this.#ended.add(sid);
      if (isOurs || isLater) this.#leave(reason, epoch, { tell: false });
    }
    if (kind !== "ask") this.#awaited?.();
  }

  /** Do `work` while no other tab does the like, unless they take too long. */
  async #alone(work) {
    let hasBegun = false;
    const begin = () => {
      hasBegun = true;
      return work();
    };
    const { locks } = globalThis.navigator ?? {};
    if (!locks) return begin();
    try {
      return await locks.request(this.#name, { signal: AbortSignal.timeout(LOCK_PATIENCE) }, begin);
    } catch (error) {
      if (hasBegun) throw error;
      return begin();
    }
  }

  /** Sign-ins and sign-outs of this tab happen in the order in which they were asked for. */
  #inTurn(work) {
    const turn = this.#signing.then(work);
    this.#signing = turn.catch(() => null);
    return turn;
  }

  // Time.

  #signals() {
    return [
      [globalThis.document, "visibilitychange"],
      [globalThis.window, "online"],
      [globalThis.window, "pageshow"],
    ];
  }

  #schedule() {
    clearTimeout(this.#timer);
    const pause = Math.min(300_000, 10_000 * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    const due = this.#failures || !this.#token ? pause : this.#token.expires - marginOf(this.#token) - Date.now();
    this.#timer = setTimeout(this.#check, Math.min(Math.max(due, 0), 2 ** 31 - 1));
    this.#timer.unref?.();
  }

  /** Look whether it is time to refresh. Nobody looks at a hidden page: it refreshes when it is shown or calls. */
  #check = () => {
    const isWanted = this.#state === "signed-in" || (this.#state === "unknown" && this.#asked);
    if (this.#closed || !isWanted || globalThis.document?.visibilityState === "hidden") return;
    if (usable(this.#token)) this.#schedule();
    else this.#refresh().catch(() => this.#schedule());
  };

  /** Leave the service alone for as long as it asks, or for a while after a refusal that makes no sense. */
  #pause(error) {
    const seconds = error.retryAfter ?? (TEMPORARY.has(error.status) ? 0 : 10);
    this.#paused = spanOf(seconds * 1000);
    this.#pauseReason = error;
  }

  /** Call the service by itself, without a retry. */
  async #post(path, { body, bearer } = {}) {
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    try {
      const response = await fetch(this.#base + path, {
        method: "POST",
        headers,
        body: body && JSON.stringify(body),
        credentials: "include",
        cache: "no-store",
        redirect: "error",
        keepalive: true, // a cookie that is on its way arrives, though the page be closed meanwhile
        signal: AbortSignal.timeout(REQUEST_TIMEOUT),
      });
      return await answerOf(response, path === "/api/logout");
    } catch (error) {
      throw unreached(error);
    }
  }
}

function sleep(milliseconds) {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}

/** Try again what failed for the moment and is still wanted: a few times, with pauses as long as the service asks for,
    unless `hurried` ends one. */
async function persistently(call, isWanted, hurried) {
  let failure = null;
  for (let tries = 1; ; tries += 1) {
    try {
      return await call(failure);
    } catch (error) {
      failure = error;
      const pause = Math.max((error.retryAfter ?? 0) * 1000, FIRST_PAUSE * 2 ** (tries - 1));
      const isHopeless = !TEMPORARY.has(error.status) || globalThis.navigator?.onLine === false;
      if (isHopeless || tries === TRIES || pause > LONGEST_PAUSE || !isWanted()) throw error;
      await Promise.race([sleep(pause * (1 + Math.random() / 4)), hurried].filter(Boolean));
      if (!isWanted()) throw error;
    }
  }
}

/** Pass a promise on, unless the caller gives up first; the work itself goes on for the others. */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

function send(request, token) {
  if (token) request.headers.set("Authorization", `Bearer ${token.value}`);
  return fetch(request);
}

async function jsonOf(response) {
  if (!/[/+]json\b/.test(response.headers.get("Content-Type") ?? "")) return {};
  return (await response.json().catch(() => null)) ?? {};
}

/** Give the body of a good answer: a token or, where that `isEmpty`, nothing. What is no answer of the service, as of
    a hotel's sign-in page, counts as none. */
async function answerOf(response, isEmpty = false) {
  const body = await jsonOf(response);
  if (isEmpty ? response.status === 204 : response.ok && typeof body.accessToken === "string") return body;
  if (response.ok) throw new ApiError(0, "network_error", "Something else answered in the service's place.");
  const message = body.message ?? `The service answered ${response.status}.`;
  throw new ApiError(response.status, body.code ?? "unknown", message, secondsOf(response.headers.get("Retry-After")));
}

function unreached(error) {
  if (error instanceof ApiError) return error;
  const code = error.name === "TimeoutError" ? "timeout" : "network_error";
  return new ApiError(0, code, "The service cannot be reached.", null, { cause: error });
}

/** Read a Retry-After, seconds or a date, as seconds from now. */
function secondsOf(text) {
  const seconds = /^\d+$/.test(text ?? "") ? Number(text) : (Date.parse(text ?? "") - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

/** Whether it is the token that an API did not like, and not what was asked. */
async function refusesToken(response) {
  if (response.status !== 401 && response.status !== 403) return false;
  if (/\berror="?invalid_token\b/i.test(response.headers.get("WWW-Authenticate") ?? "")) return true;
  return (await jsonOf(response.clone())).code === "access_token_invalid";
}

/** Make a token of an answer to what was asked at `since`. Only this machine's clock says when it ends. */
function tokenOf({ accessToken, expiresIn }, since) {
  return { value: accessToken, claims: claimsOf(accessToken), since, expires: since + expiresIn * 1000 };
}

function claimsOf(value) {
  const text = atob(value.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (each) => each.charCodeAt(0))));
}

/** The time from now on for so many milliseconds. */
function spanOf(milliseconds) {
  const from = Date.now();
  return { from, until: from + milliseconds };
}

/** Whether it is the time; one that has yet to begin is of a clock that has been put back since. */
function isNow(span) {
  const now = Date.now();
  return Boolean(span) && span.from <= now && now < span.until;
}

function marginOf({ since, expires }) {
  return Math.min(LONGEST_MARGIN, (expires - since) / 5);
}

/** Whether a token is good for a while; one from the future is of a clock that has been put back since. */
function usable(token) {
  const now = Date.now();
  return token !== null && now < token.expires - marginOf(token) && now > token.since - CLOCK_TOLERANCE;
}
