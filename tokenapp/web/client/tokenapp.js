/*
 * The browser client of tokenapp: signs users in and out, and calls APIs with their access token. No dependencies.
 *
 * The access token is kept in the memory of this module only. The refresh token is in a cookie, which scripts cannot
 * read. The tabs of a browser refresh one at a time under a Web Lock, and share the new token over a BroadcastChannel.
 * Both only reduce the number of requests, because simultaneous refreshes of a session get the same refresh token.
 */

export const VERSION = "0.2.0";

const REQUEST_TIMEOUT = 8000;
const LOCK_TIMEOUT = 3000; // a suspended tab may hold the lock for hours
const TAB_TIMEOUT = 50;
const DRAIN_TIMEOUT = 2000;
const REFRESH_PATIENCE = 5000;
const MAX_ATTEMPTS = 5;
const FIRST_DELAY = 250;
const MAX_DELAY = 8000; // short enough to retry within the grace period after a response was lost
const MAX_REFRESH_MARGIN = 60_000;
const CLOCK_TOLERANCE = 60_000;
const REJECTION_MEMORY = 30_000;
const REPLACEMENT_DELAY = 100;
const MAX_REPLACEMENT_DELAY = 2000;
const MIN_DELAY = 1000;
const MAX_PAUSE = 3_600_000; // a date in a header may be far away by a wrong clock
const ENDING_NOTICE = 300_000;
const MAX_TIMEOUT = 2 ** 31 - 1;
const TEMPORARY_STATUSES = new Set([0, 408, 425, 429, 500, 502, 503, 504]);
const SESSION_ENDED = /^refresh_token_/;
const SECOND_STEP = "second_factor_required";
const COOKIE_MISSING = "refresh_token_missing";
const OPTIONS = ["baseUrl", "origins", "refresh"];

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

/** Create a client of the service at `baseUrl`. It sends tokens to the service and to `origins` only. Its members are
    values and functions that do not use `this`: they can be destructured, and called through proxies. */
export function createClient(options = {}) {
  const client = new Client(parseOptions(options));
  return {
    get baseUrl() {
      return client.baseUrl;
    },
    get user() {
      return client.user;
    },
    get state() {
      return client.state;
    },
    get sessionEndsAt() {
      return client.sessionEndsAt;
    },
    restore: async () => client.untilClosed(() => client.restore()),
    signIn: async (username, password) => client.untilClosed(() => client.signIn(username, password)),
    signInWithPasskey: async (how) => client.untilClosed(() => client.signInWithPasskey(how)),
    reauthenticate: async (proof) => client.untilClosed(() => client.reauthenticate(proof)),
    changePassword: async (current, chosen) => client.untilClosed(() => client.changePassword(current, chosen)),
    signOut: async () => client.signOut(),
    getToken: async () => client.untilClosed(() => client.getToken()),
    fetch: async (input, init) => client.fetch(input, init),
    onChange: (listener) => client.onChange(listener),
    close: () => client.close(),
  };
}

class Client {
  #base;
  #allowedOrigins;
  #isAutomatic;
  #sharedName;
  #channel;
  #lifetime = new AbortController();
  #listeners = new Set();
  #changes = [];
  #token = null;
  #user = null;
  #state = "unknown";
  // The time of the last sign-in or sign-out by this machine's clock. Tabs resolve conflicts by it: the latest wins.
  #epoch = 0;
  #endedSessions = new Set();
  #rejectedToken = null;
  #hasLostCookie = false;
  #isLockDenied = false;
  #refreshing = null;
  #queue = Promise.resolve();
  #pendingSignIns = 0;
  #skipDelay = null;
  #rejectingOrigins = new Map();
  #paused = null;
  #pauseReason = null;
  #onTabResponse = null;
  #timer = undefined;
  #sessionEndsAt = null;
  #endTimer = undefined;
  #announcedEnd = null;
  #failures = 0;
  #isUsed = false;
  #passkeyRequest = null;

  constructor({ base, allowedOrigins, isAutomatic }) {
    this.#base = base;
    this.#allowedOrigins = allowedOrigins;
    this.#isAutomatic = isAutomatic;
    this.#sharedName = `tokenapp ${base}`;
    this.#channel = openChannel(this.#sharedName, (message) => this.#receive(message));
    for (const [target, event] of this.#wakeEvents()) target?.addEventListener?.(event, this.#wakeUp);
  }

  get baseUrl() {
    return this.#base;
  }

  /** The user that the token names, or null: the same object until something about the user changes. */
  get user() {
    return this.#user;
  }

  get state() {
    return this.#state;
  }

  /** The time at which the session ends even if it is used, by this machine's clock, or null. */
  get sessionEndsAt() {
    return this.#sessionEndsAt;
  }

  /** Do `work`. Rejects with `client_closed` when the client is closed, even if it is closed during the work. */
  untilClosed(work) {
    this.#lifetime.signal.throwIfAborted();
    return abortable(work(), this.#lifetime.signal);
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

  /** Sign in. Returns the user, or the second step that the sign-in needs. */
  async signIn(username, password) {
    const { user, step } = await this.#openSession("/api/login", { username, password });
    return step ?? user;
  }

  /** Sign in with a passkey, and return the user. Rejects with the browser's error if the user cancels. */
  async signInWithPasskey({ mediation = "optional", signal } = {}) {
    const signed = await this.#signWithPasskey(mediation, signal);
    const work = this.#openSession("/api/login/passkey", { credential: signed.credential });
    const { user } = await forgetUnknown(signed, work);
    return user;
  }

  /** Get a fresh token, for requests that need a recent authentication, with the password or with `{ method, code }`.
      A new session replaces the current one. Returns null, or the second step that the password needs. */
  async reauthenticate(proof) {
    if (!proof?.method) return this.#reauthenticate({ password: proof });
    return this.#prove(proof.method, proof.code, (answer) => this.#reauthenticate(answer));
  }

  async #reauthenticate(answer) {
    let step = null;
    const work = this.#replaceSession(async (bearer) => {
      const since = Date.now();
      const body = await this.#request("/api/reauthenticate", { body: answer, bearer, accepts: isFirstStep });
      if (body.pending) {
        step = this.#secondStep(body);
        throw new ApiError(401, SECOND_STEP, body.message);
      }
      return { ...tokenFrom(body, since), isNew: true };
    });
    await work.catch((error) => {
      if (!step) throw error;
    });
    return step;
  }

  /** Change the password. A new session replaces the current one, and all other sessions of the user end. */
  async changePassword(currentPassword, newPassword) {
    const body = { currentPassword, newPassword };
    await this.#replaceSession(async (bearer) => {
      await this.#request("/api/me/password", { method: "PUT", body, bearer, accepts: isEmpty });
      return null;
    });
  }

  /** Sign out in all tabs at once. Rejects if the service could not be reached: the session is then still live. */
  async signOut() {
    this.#lifetime.signal.throwIfAborted();
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

  /** Return the access token, refreshed if it is about to expire, or null if no user is signed in. */
  async getToken() {
    return (await this.#currentToken())?.value ?? null;
  }

  /** Call the global fetch, with the access token if the origin is allowed to get it. */
  async fetch(input, init) {
    this.#lifetime.signal.throwIfAborted();
    const request = new Request(input, init);
    const origin = new URL(request.url).origin;
    if (!this.#allowedOrigins.has(origin) || request.headers.has("Authorization")) return fetch(request);
    const owner = this.#token?.claims.sub;
    // Never send one user's request with another user's token.
    const own = (token) => (owner && token && token.claims.sub !== owner ? null : token);
    const current = this.untilClosed(() => this.#currentToken());
    const token = own(await abortable(current, request.signal));
    const spare = request.clone();
    const first = await send(request, token);
    if (!token || !(await rejectsToken(first))) return first;
    const replacement = this.#replaceToken(token, origin).catch(() => null);
    const next = own(await abortable(replacement, request.signal));
    if (!next) return first;
    // Until it is read, it holds its connection, and may count against the browser's limit for keepalive.
    await Promise.race([drain(first.clone()), sleep(DRAIN_TIMEOUT)]);
    const second = await send(spare, next).catch((error) => {
      if (request.signal.aborted) throw error;
      return null; // the browser cannot send this body again
    });
    if (!second) return first;
    // Do not refresh at every call to an API that rejects all tokens.
    if (await rejectsToken(second)) this.#rejectingOrigins.set(origin, intervalOf(REJECTION_MEMORY));
    return second;
  }

  /** Call `listener(change)` at each change, in any tab. Returns a function that removes the listener. */
  onChange(listener) {
    if (typeof listener !== "function") throw new TypeError("onChange needs a function.");
    const entry = (change) => listener(change);
    if (!this.#isClosed) this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  }

  /** Discard the token and stop all work, for good. The session stays live. */
  close() {
    if (this.#isClosed) return;
    this.#lifetime.abort(new ApiError(0, "client_closed", "The client was closed."));
    this.#setToken(null);
    this.#state = "signed-out";
    this.#listeners.clear();
    this.#passkeyRequest?.abort();
    this.#channel?.close();
    this.#channel = null;
    for (const [target, event] of this.#wakeEvents()) target?.removeEventListener?.(event, this.#wakeUp);
  }

  /** Open a session with what was proved. Resolves to the user, or to the second step that is still needed. */
  #openSession(path, content) {
    this.#pendingSignIns += 1;
    this.#skipDelay?.();
    return this.#enqueue(async () => {
      this.#pendingSignIns -= 1;
      return this.#withoutRefresh(async () => {
        const isDoubtful = this.#isCookieDoubtful();
        if (isDoubtful && this.#hasLostCookie) throw cookiesBlocked(this.#base); // without opening another session
        const since = Date.now();
        const body = await this.#request(path, { body: content, accepts: isFirstStep });
        if (body.pending) return { step: this.#secondStep(body) };
        const token = { ...tokenFrom(body, since), isNew: true };
        const isConfirmed = isDoubtful || this.#hasLostCookie;
        this.#acceptToken(isConfirmed ? await this.#confirmCookie(token) : token, this.#nextEpoch());
        return { user: this.user, recoveryCodes: body.recoveryCodes ?? [] };
      });
    });
  }

  #secondStep({ pending, methods, setup }) {
    const finish = (answer) => this.#openSession("/api/login/second", { pending, ...answer });
    const complete = async (method, code) => {
      if (method !== "passkey" || !setup.length) return this.#prove(method, code, finish);
      return finish({ method, credential: await this.#createPasskey({ pending }) });
    };
    const accepts = (response, body) => response.ok && typeof body.secret === "string";
    const startSetup = () => this.#request("/api/login/setup/totp", { body: { pending }, accepts });
    return Object.freeze({
      methods,
      setup,
      complete: async (method, code) => this.untilClosed(() => complete(method, code)),
      startSetup: async () => this.untilClosed(startSetup),
    });
  }

  /** Pass what proves a second factor to `send`: a code, or the signature of a passkey. */
  async #prove(method, code, send) {
    if (method !== "passkey") return send({ method, code });
    const signed = await this.#signWithPasskey();
    return forgetUnknown(signed, send({ method, credential: signed.credential }));
  }

  async #signWithPasskey(mediation, signal) {
    const own = this.#startPasskeyRequest(signal);
    const { publicKey: options } = await this.#request("/api/passkeys/options", { accepts: hasChallenge });
    own.throwIfAborted();
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
    const credential = await navigator.credentials.get({ publicKey, mediation, signal: own });
    return { credential: credential.toJSON(), rpId: options.rpId };
  }

  async #createPasskey(body) {
    const own = this.#startPasskeyRequest();
    const { publicKey: options } = await this.#request("/api/login/setup/passkey", { body, accepts: hasChallenge });
    own.throwIfAborted();
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    const credential = await navigator.credentials.create({ publicKey, signal: own });
    return credential.toJSON();
  }

  /** End the request for a passkey that waits, such as that of autofill: browsers reject a second one. Returns the
      signal of the next one. */
  #startPasskeyRequest(signal) {
    this.#passkeyRequest?.abort();
    const own = new AbortController();
    this.#passkeyRequest = own;
    if (signal?.aborted) own.abort(signal.reason);
    signal?.addEventListener("abort", () => own.abort(signal.reason), { once: true });
    return own.signal;
  }

  get #isClosed() {
    return this.#lifetime.signal.aborted;
  }

  // Tokens.

  async #currentToken() {
    if (this.#state === "signed-out" || isUsable(this.#token)) return this.#token;
    this.#isUsed = true;
    const remaining = () => (this.#token?.expires ?? 0) - Date.now();
    // A valid token is better than a long wait for a service that does not respond.
    const patience = remaining() > 2 * REFRESH_PATIENCE ? [sleep(REFRESH_PATIENCE)] : [];
    try {
      await Promise.race([this.#refresh(), ...patience]);
    } catch (error) {
      if (remaining() <= 0) throw error;
    }
    return this.#token;
  }

  /** Return a token that replaces a rejected one, or null if there is none. */
  async #replaceToken(token, origin) {
    if (this.#token === token) {
      if (isWithin(this.#rejectingOrigins.get(origin))) return null;
      this.#rejectedToken = token.value;
      await this.untilClosed(() => this.#refresh()).catch(() => null);
    }
    return this.#token?.value === token.value ? null : this.#token;
  }

  /** Get a new token, unless there is a usable one. With `isCheck`, ask the service in any case. */
  #refresh({ isCheck = false } = {}) {
    this.#refreshing ??= this.#refreshWithLock(isCheck).finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #refreshWithLock(isCheck) {
    const epoch = this.#epoch;
    const isFresh = () => !isCheck && isUsable(this.#token) && !this.#isRejected();
    const isSettled = () => this.#isClosed || this.#epoch !== epoch || isFresh();
    return this.#withLock(async () => {
      if (!isSettled() && !isCheck) await this.#requestTokenFromTabs();
      if (!isSettled()) await this.#requestToken(isSettled);
      return this.#token;
    });
  }

  async #requestToken(isSettled) {
    if (isWithin(this.#paused)) throw this.#pauseReason;
    const known = this.#epoch;
    let since;
    let isRepeated = false;
    const post = (failure) => {
      since = Date.now();
      return this.#request("/api/token", { failure });
    };
    // Another page may just have replaced the session and its cookie. The second request has the new cookie.
    const postAgain = async (error) => {
      const isRejected = SESSION_ENDED.test(error.code) && error.code !== COOKIE_MISSING;
      if (isRepeated || !isRejected) throw error;
      isRepeated = true;
      await sleep(Math.min(Math.max(Date.now() - since, REPLACEMENT_DELAY), MAX_REPLACEMENT_DELAY));
      if (isSettled()) throw error;
      return post(error);
    };
    try {
      const body = await retry(
        (failure) => post(failure).catch(postAgain),
        () => !isSettled(),
      );
      // The epoch is the time of the request, so a sign-in or sign-out during the request takes precedence.
      this.#acceptToken(tokenFrom(body, since), Math.max(known, since));
    } catch (error) {
      if (isSettled()) return;
      this.#failures += 1;
      if (SESSION_ENDED.test(error.code)) {
        const cause = await this.#causeOfEnd(error);
        if (!isSettled()) this.#discardSession("session-ended", known, { error: cause });
        if (cause !== error) throw cause;
        return;
      }
      this.#pause(error);
      throw error;
    }
  }

  // Cookies.

  /** Whether the browser seems not to keep the cookie of a session. One that denies storage denies locks as well. */
  #isCookieDoubtful() {
    return globalThis.navigator?.cookieEnabled === false || this.#isLockDenied || isOtherSite(this.#base);
  }

  /** Refresh with the cookie of a new session. Rejects if the browser did not keep the cookie. */
  async #confirmCookie(token) {
    const since = Date.now();
    try {
      const next = tokenFrom(await this.#request("/api/token"), since);
      if (next.claims.sid === token.claims.sid) return next;
    } catch (error) {
      if (!SESSION_ENDED.test(error.code)) return token;
      throw await this.#rejectCookie(token, error);
    }
    throw await this.#rejectCookie(token);
  }

  /** Return why the session ended: `cookies_blocked` if the service still lists it, right after the sign-in. */
  async #causeOfEnd(error) {
    const token = this.#token;
    if (!token?.isNew || error.code !== COOKIE_MISSING) return error;
    return (await this.#isLive(token.value)) ? this.#rejectCookie(token, error) : error;
  }

  /** Whether the service lists the session of a token. */
  async #isLive(bearer) {
    const accepts = (response, body) => response.ok && Array.isArray(body.items);
    const request = this.#request("/api/sessions?limit=200", { method: "GET", bearer, accepts });
    const { items } = await request.catch(() => ({ items: [] }));
    return items.some((session) => session.current);
  }

  /** Revoke a session that the browser has no cookie of, and return the error for it. */
  async #rejectCookie(token, cause) {
    this.#hasLostCookie = true;
    await this.#request("/api/logout", { bearer: token.value, accepts: isEmpty }).catch(() => null);
    return cookiesBlocked(this.#base, cause);
  }

  // Sessions.

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
    if (this.#isClosed) return;
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
    const post = (failure) => this.#request("/api/logout", { bearer, failure, accepts: isEmpty });
    const postIfWanted = (failure) => (isWanted() ? post(failure) : Promise.reject(failure));
    // The first attempt takes no lock, because the page may be closed at any moment. Retries wait for sign-ins.
    const attempt = (failure) => (failure ? this.#withLock(() => postIfWanted(failure)) : post());
    await retry(attempt, isWanted, skipDelay);
  }

  #acceptToken(token, epoch, { broadcast = true } = {}) {
    const { sid } = token.claims;
    const current = this.#token;
    const isSame = current?.claims.sid === sid;
    const before = this.#user;
    if (this.#isClosed || this.#endedSessions.has(sid) || token.value === this.#rejectedToken) return;
    if (isSame ? token.since < current.since && isUsable(current) : epoch < this.#epoch) return;
    this.#epoch = Math.max(this.#epoch, epoch);
    this.#setToken(token);
    this.#state = "signed-in";
    this.#failures = 0;
    this.#paused = null; // the service responds again
    this.#scheduleRefresh();
    if (broadcast) this.#broadcastToken();
    if (before?.id !== this.#user.id || before.username !== this.#user.username) this.#emit("signed-in");
    this.#watchEnd();
  }

  #discardSession(reason, epoch, { sid = this.#token?.claims.sid, error = null, broadcast = true } = {}) {
    const before = this.#state;
    if (sid) this.#endedSessions.add(sid);
    this.#epoch = Math.max(this.#epoch, epoch);
    this.#setToken(null);
    this.#state = "signed-out";
    const shared = error && { ...error, message: error.message };
    if (broadcast) this.#post({ kind: "left", reason, epoch, sid, error: shared });
    if (before === "signed-in" && reason === "session-ended") this.#emit(reason, { error });
    else if (before !== "signed-out") this.#emit("signed-out");
  }

  #setToken(token) {
    const former = this.#user;
    const { sub: id, username, sid: sessionId } = token?.claims ?? {};
    const isSameSession = token !== null && former?.sessionId === sessionId;
    const isSame = isSameSession && former.id === id && former.username === username;
    this.#token = token;
    if (!isSame) this.#user = token && Object.freeze({ id, username, sessionId });
    const endsAt = endOf(token);
    // Each response computes the time again, some milliseconds off.
    const isClose = isSameSession && Math.abs(endsAt - this.#sessionEndsAt) < CLOCK_TOLERANCE;
    if (!isClose) this.#sessionEndsAt = endsAt;
    if (token) return;
    clearTimeout(this.#timer);
    clearTimeout(this.#endTimer);
  }

  #isRejected() {
    return this.#token?.value === this.#rejectedToken;
  }

  #nextEpoch() {
    return Math.max(Date.now(), this.#epoch + 1);
  }

  /** Call the listeners. If one of them causes the next change, all of them get this one first. */
  #emit(reason, details = {}) {
    this.#changes.push({ user: this.#user, reason, ...details });
    if (this.#changes.length > 1) return;
    try {
      for (const change of this.#changes) this.#deliver(change);
    } finally {
      this.#changes = [];
    }
  }

  #deliver(change) {
    for (const listener of [...this.#listeners]) {
      if (!this.#listeners.has(listener)) continue; // another listener has just removed it, or closed the client
      try {
        listener(change);
      } catch (error) {
        if (globalThis.reportError) reportError(error);
        else console.error(error);
      }
    }
  }

  // Other tabs.

  #post(message) {
    try {
      this.#channel?.postMessage(message);
    } catch {
      // The other tabs ask the service.
    }
  }

  #broadcastToken() {
    const { value, since, expires, isNew } = this.#token;
    this.#post({ kind: "token", epoch: this.#epoch, value, since, expires, isNew });
  }

  /** Ask the other tabs for a usable token, and wait briefly for a response. */
  async #requestTokenFromTabs() {
    if (!this.#channel) return;
    const response = new Promise((resolve) => {
      this.#onTabResponse = resolve;
    });
    this.#post({ kind: "ask" });
    await Promise.race([response, sleep(TAB_TIMEOUT)]);
  }

  #receive({ kind, reason, epoch, sid, error, value, since, expires, isNew }) {
    if (kind === "ask" && isUsable(this.#token) && !this.#isRejected()) this.#broadcastToken();
    if (kind === "token") {
      const token = { value, since, expires, isNew, claims: decodeClaims(value) };
      this.#acceptToken(token, epoch, { broadcast: false });
    }
    if (kind === "left") {
      const isOurs = this.#token?.claims.sid === sid;
      const isLater = reason === "signed-out" && epoch >= this.#epoch;
      const why = error && new ApiError(error.status, error.code, error.message, error.retryAfter);
      if (sid) this.#endedSessions.add(sid);
      if (isOurs || isLater) this.#discardSession(reason, epoch, { error: why, broadcast: false });
    }
    if (kind !== "ask") this.#onTabResponse?.();
  }

  /** Do `work` while no refresh is in progress, whose response would overwrite the cookie that `work` gets. */
  async #withoutRefresh(work) {
    await Promise.race([this.#refreshing?.catch(() => null), sleep(this.#refreshing ? LOCK_TIMEOUT : 0)]);
    return this.#withLock(async () => {
      this.#lifetime.signal.throwIfAborted();
      return work();
    });
  }

  /** Do `work` once: under the lock that all tabs share, or without it if the lock is refused or not free in time. */
  async #withLock(work) {
    let result = null;
    const begin = () => (result ??= work());
    try {
      const signal = AbortSignal.timeout(LOCK_TIMEOUT);
      const request = globalThis.navigator?.locks?.request(this.#sharedName, { signal }, begin);
      await abortable(request, signal); // even if the browser ignores the signal
      this.#isLockDenied = false;
    } catch (error) {
      // If it is an error of the work, the result rejects with it.
      this.#isLockDenied = !result && error.name === "SecurityError";
    }
    return begin();
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
      [globalThis, "online"], // in workers as well
      [globalThis, "pageshow"],
    ];
  }

  #scheduleRefresh() {
    clearTimeout(this.#timer);
    if (this.#isClosed || (this.#token && !this.#isAutomatic)) return;
    const delay = Math.min(300_000, 10_000 * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    const due = this.#failures || !this.#token ? delay : this.#token.expires - refreshMargin(this.#token) - Date.now();
    this.#timer = startTimer(this.#refreshIfDue, Math.max(due, MIN_DELAY));
  }

  /** Refresh if the token is about to expire. Hidden pages wait until they are shown or call an API. */
  #refreshIfDue = () => {
    const isWanted = this.#state === "unknown" ? this.#isUsed : this.#token && this.#isAutomatic;
    if (this.#isClosed || !isWanted || isHidden()) return;
    if (isUsable(this.#token)) this.#scheduleRefresh();
    else this.#refresh().catch(() => this.#scheduleRefresh());
  };

  /** Ask the service whether the session is still live when the page is shown: a page of another origin may have ended
      it. A page from the back/forward cache may also have missed a sign-in. */
  #wakeUp = ({ type, persisted }) => {
    if (isHidden()) return;
    const isReturn = type === "pageshow" && persisted !== false;
    const isShown = isReturn || type === "visibilitychange";
    const isWanted = this.#state === "signed-in" || (this.#isUsed && (isReturn || this.#state === "unknown"));
    if (isShown && isWanted) this.#refresh({ isCheck: true }).catch(() => this.#scheduleRefresh());
    else this.#refreshIfDue();
    this.#watchEnd();
  };

  /** Report once that the session is about to end, and find out when it has ended. */
  #watchEnd = () => {
    clearTimeout(this.#endTimer);
    if (!this.#token || this.#sessionEndsAt === null) return;
    const { sid, auth_time: began, session_expiry: end } = this.#token.claims;
    const notice = Math.min(ENDING_NOTICE, ((end - began) * 1000) / 5);
    const remaining = this.#sessionEndsAt - Date.now();
    if (remaining > notice) {
      this.#endTimer = startTimer(this.#watchEnd, remaining - notice);
      return;
    }
    if (remaining > 0) this.#endTimer = startTimer(this.#watchEnd, remaining + 1000);
    else if (!isHidden()) this.#refresh({ isCheck: true }).catch(() => this.#scheduleRefresh());
    if (this.#announcedEnd === sid || remaining <= 0) return;
    this.#announcedEnd = sid;
    this.#emit("session-ending", { endsAt: this.#sessionEndsAt });
  };

  /** Send no refresh for as long as the service requests, or for ten seconds after an unexpected error. */
  #pause(error) {
    const seconds = error.retryAfter ?? (TEMPORARY_STATUSES.has(error.status) ? 0 : 10);
    this.#paused = intervalOf(Math.min(seconds * 1000, MAX_PAUSE));
    this.#pauseReason = error;
  }

  /** Send one request to the service. `accepts` tells a response of the service from one of something else. */
  async #request(path, { method = "POST", body, bearer, failure, accepts = hasToken } = {}) {
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    // With keepalive, the browser stores the new cookie even if the page is closed during the request.
    const attempt = (keepalive) =>
      fetch(this.#base + path, {
        method,
        headers,
        body: body && JSON.stringify(body),
        credentials: "include",
        cache: "no-store",
        redirect: "error",
        keepalive,
        signal: AbortSignal.timeout(REQUEST_TIMEOUT),
      });
    try {
      // Browsers refuse such requests at once when other scripts have too many of them in progress.
      const response = await attempt(failure?.code !== "network_error").catch(async (error) => {
        if (!body || this.#isClosed || error.name !== "TypeError") throw error;
        // The first request may have replaced the session, and only its response was lost.
        if (bearer && !(await this.#isLive(bearer))) throw error;
        return attempt(false);
      });
      return await readBody(response, accepts);
    } catch (error) {
      throw connectionError(error);
    }
  }
}

/** Check the options at once, so that a mistake is not found at the first request. */
function parseOptions(options) {
  if (!/^\[object (Object|Module)\]$/.test(Object.prototype.toString.call(options))) {
    throw new TypeError('createClient needs an object, such as { baseUrl: "https://login.example.com" }.');
  }
  const { baseUrl, origins = [], refresh = "auto", ...others } = options;
  const unknown = Object.keys(others);
  if (unknown.length) throw new TypeError(`Unknown option ${unknown[0]}: the options are ${OPTIONS.join(", ")}.`);
  if (refresh !== "auto" && refresh !== "when-used") throw new TypeError('refresh must be "auto" or "when-used".');
  if (typeof origins === "string" || !origins?.[Symbol.iterator]) {
    throw new TypeError('origins must be a list, such as ["https://api.example.com"].');
  }
  const url = parseUrl("baseUrl", baseUrl ?? defaultBaseUrl());
  if (url.search || url.hash) throw new TypeError(`baseUrl must have no query and no fragment: ${baseUrl}`);
  const base = url.origin + url.pathname.replace(/\/+$/, "");
  const listed = [...origins].map((each) => parseUrl("origins", each).origin);
  return { base, allowedOrigins: new Set([url.origin, ...listed]), isAutomatic: refresh === "auto" };
}

/** Return the URL of the service that served this module as BASE/static/tokenapp.js. A copy of the module, or a bundle,
    belongs to a service on the origin of the page. */
function defaultBaseUrl() {
  const served = /^(https?:[^?#]*)\/static\/tokenapp(-[\d.]+)?\.js(?![^?#])/.exec(import.meta.url);
  const base = served ? served[1] : pageOrigin();
  if (base) return base;
  throw new TypeError(
    'Without a page, give baseUrl, the URL of the service: createClient({ baseUrl: "https://login.example.com" }).',
  );
}

/** Return the origin of the page, if it has one: sandboxed frames and `about:blank` have none. */
function pageOrigin() {
  const origin = globalThis.location?.origin;
  return origin === "null" ? undefined : origin;
}

/** Parse a URL of http or https. A path that begins with a slash is one of the page's own origin. */
function parseUrl(option, value) {
  const text = String(value);
  try {
    const url = new URL(text, pageOrigin());
    if (/^(https?:\/\/|\/)/i.test(text) && /^https?:$/.test(url.protocol) && !url.username && !url.password) return url;
  } catch {
    // It is not a URL at all.
  }
  throw new TypeError(`${option} must be a URL such as "https://login.example.com", not "${text}".`);
}

/** Open the channel to the other tabs. Browsers refuse it where they block storage. */
function openChannel(name, receive) {
  try {
    const channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => receive(data ?? {});
    channel.unref?.();
    return channel;
  } catch {
    return null;
  }
}

/** Whether the page is of another site than the service, as far as the names tell. Its cookie would not be kept. */
function isOtherSite(base) {
  const page = globalThis.location;
  if (!page) return false;
  const { protocol, hostname } = new URL(base);
  const siteOf = (host) => (/^[\d.]+$|:/.test(host) ? host : host.split(".").slice(-2).join("."));
  return protocol !== page.protocol || siteOf(hostname) !== siteOf(page.hostname);
}

function cookiesBlocked(base, cause) {
  const message = `The browser did not keep the cookie of ${new URL(base).hostname}. Allow cookies and sign in again.`;
  return new ApiError(cause?.status ?? 401, "cookies_blocked", message, null, { cause });
}

/** Let the authenticator remove a passkey that the service does not know. */
async function forgetUnknown({ credential, rpId }, work) {
  try {
    return await work;
  } catch (error) {
    const unknown = { rpId, credentialId: credential.id };
    const isKnown = error.code !== "passkey_unknown";
    if (!isKnown) await PublicKeyCredential.signalUnknownCredential?.(unknown).catch(() => null);
    throw error;
  }
}

function isHidden() {
  return globalThis.document?.visibilityState === "hidden";
}

/** Start a timer that does not keep a program running. Longer delays than browsers support are cut. */
function startTimer(work, delay) {
  const timer = setTimeout(work, Math.min(Math.max(delay, 0), MAX_TIMEOUT));
  timer.unref?.();
  return timer;
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
    Promise.resolve(promise).then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function send(request, token) {
  if (token) request.headers.set("Authorization", `Bearer ${token.value}`);
  return fetch(request);
}

function isJson(response) {
  return /[/+]json\b/.test(response.headers.get("Content-Type") ?? "");
}

async function readJson(response) {
  const text = await response.text();
  if (!isJson(response)) return {};
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** Read a body that nobody needs. A cancelled one would close the connection. */
async function drain(response) {
  await response.arrayBuffer().catch(() => null);
}

function hasToken(response, body) {
  return response.ok && typeof body.accessToken === "string" && body.expiresIn >= 0;
}

/** Whether it is a token, or the second step of a sign-in. */
function isFirstStep(response, body) {
  return hasToken(response, body) || (body.code === SECOND_STEP && typeof body.pending === "string");
}

function hasChallenge(response, body) {
  return response.ok && typeof body.publicKey?.challenge === "string";
}

function isEmpty(response) {
  return response.status === 204;
}

/** Return the body of a successful response. One that the service did not send, such as the sign-in page of a captive
    portal, is a network error. */
async function readBody(response, accepts) {
  const body = await readJson(response);
  if (accepts(response, body)) return body;
  if (response.ok) throw foreignResponse();
  // Gateways send errors of their own, such as `{ "code": 403 }`.
  const [code, message] = [body.code, body.message].map((each) => (typeof each === "string" ? each : null));
  const sentence = message ?? `The service responded with status ${response.status}.`;
  throw new ApiError(response.status, code ?? "unknown", sentence, parseRetryAfter(response.headers));
}

function foreignResponse() {
  return new ApiError(0, "network_error", "The response did not come from the service.");
}

function connectionError(error) {
  if (error instanceof ApiError) return error;
  const code = error.name === "TimeoutError" ? "timeout" : "network_error";
  return new ApiError(0, code, "The service cannot be reached.", null, { cause: error });
}

/** Return the seconds until the time of a Retry-After header, which is a number of seconds or a date by the clock of the
    sender. Pages of other origins cannot read the sender's time. */
function parseRetryAfter(headers) {
  const text = headers.get("Retry-After") ?? "";
  const now = Date.parse(headers.get("Date") ?? "") || Date.now();
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : null;
}

/** Whether the error means that the token was rejected, and not the request. */
async function rejectsToken(response) {
  if (response.status !== 401 && response.status !== 403) return false;
  if (/\berror="?invalid_token\b/i.test(response.headers.get("WWW-Authenticate") ?? "")) return true;
  // Other bodies may have no end, such as a stream of events. One that breaks off is the caller's.
  if (!isJson(response)) return false;
  const body = await readJson(response.clone()).catch(() => ({}));
  return body.code === "access_token_invalid";
}

/** Build a token from a response to a request sent at `since`. It expires by this machine's clock only. */
function tokenFrom({ accessToken, expiresIn }, since) {
  try {
    return { value: accessToken, claims: decodeClaims(accessToken), since, expires: since + expiresIn * 1000 };
  } catch {
    throw foreignResponse();
  }
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

/** Return how long before its expiry a token is replaced. One that lasts until the session ends cannot be. */
function refreshMargin({ since, expires, claims }) {
  return claims.exp === claims.session_expiry ? 0 : Math.min(MAX_REFRESH_MARGIN, (expires - since) / 5);
}

/** Return the end of a token's session by this machine's clock, or null if it is not known. */
function endOf(token) {
  const { session_expiry: end, iat } = token?.claims ?? {};
  return end ? token.since + (end - iat) * 1000 : null;
}

/** Whether a token is valid for a while longer. One from the future means that the clock was set back. */
function isUsable(token) {
  const now = Date.now();
  return token !== null && now < token.expires - refreshMargin(token) && now > token.since - CLOCK_TOLERANCE;
}
