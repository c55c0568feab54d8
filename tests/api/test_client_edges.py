"""The browser client where its platform or its application misbehaves."""

import json
import subprocess
import threading
from typing import Any, Final

import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.support.app import PASSWORD, ROOT, create_user
from tests.support.programs import find_program

MODULE: Final = ROOT / "tokenapp/web/client/tokenapp.js"
# What a browser adds: it keeps the cookie. Timers and time-outs run twenty times sooner, because none is to be waited
# for. `sent` has the paths of the requests, and `intercept` may give the response to one.
BROWSER: Final = """
    const { fetch: send, setTimeout: start } = globalThis;
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = delay => timeout(delay === 3000 ? delay / 20 : delay);
    globalThis.setTimeout = (work, delay) => start(work, delay / 20);
    delete globalThis.BroadcastChannel;
    const scope = new EventTarget();
    for (const name of ["addEventListener", "removeEventListener"]) globalThis[name] = scope[name].bind(scope);
    globalThis.document = Object.assign(new EventTarget(), { visibilityState: "visible" });
    const setLocks = request => Object.defineProperty(globalThis, "navigator",
        { value: { locks: request && { request } }, configurable: true });
    let cookie = "", sent, intercept;
    globalThis.fetch = async (input, init = {}) => {
        const request = new Request(input, { ...init, keepalive: false });
        const path = new URL(request.url).pathname;
        sent.push(path);
        const found = await intercept(path, init);
        if (found) return found;
        request.headers.set("Cookie", cookie);
        const response = await send(request);
        cookie = response.headers.getSetCookie()[0]?.split(";")[0] ?? cookie;
        return response;
    };
    const { now } = Date;
    const at = async (ahead, work) => {
        Date.now = () => now() + ahead;
        try { return await work(); } finally { Date.now = now; }
    };
    const never = () => new Promise(() => {});
    const challenge = { "WWW-Authenticate": 'Bearer error="invalid_token"' };
    const rejected = body => new Response(body, { status: 401, headers: challenge });
    const endless = () => new ReadableStream({ start: stream => stream.enqueue(new Uint8Array(1)) });
"""
# Scripts, and what they return.
SCENARIOS: Final[dict[str, tuple[str, object]]] = {
    "changes are in order": (
        """async (client, signIn) => {
        const seen = [];
        client.onChange(({ reason }) => { if (reason === "signed-in") client.signOut(); });
        client.onChange(({ reason, user }) => seen.push([reason, user?.username ?? null]));
        await signIn();
        return seen;
    }""",
        [["signed-in", "user0"], ["signed-out", None]],
    ),
    "removed in a listener": (
        """async (client, signIn) => {
        const seen = [];
        client.onChange(() => { seen.push("first"); remove(); });
        const remove = client.onChange(() => seen.push("removed"));
        await signIn();
        return seen;
    }""",
        ["first"],
    ),
    "closed in a listener": (
        """async (client, signIn) => {
        const seen = [];
        client.onChange(() => { seen.push("first"); client.close(); });
        client.onChange(() => seen.push("second"));
        return [await signIn().catch(({ code }) => code), ...seen];
    }""",
        ["client_closed", "first"],
    ),
    "no listener": ("async client => { try { client.onChange(); } catch (error) { return error.name; } }", "TypeError"),
    "locks never answer": (
        """async (client, signIn) => {
        setLocks(never);
        return (await signIn()).username;
    }""",
        "user4",
    ),
    "closed while it waits for the lock": (
        """async (client, signIn) => {
        const code = new Promise(resolve => setLocks((name, options, work) => {
            client.close();
            const result = work();
            result.catch(error => resolve(error.code));
            return result;
        }));
        return [await signIn().catch(error => error.code), await code, ...sent];
    }""",
        ["client_closed", "client_closed"],
    ),
    "rejection without an end": (
        """async (client, signIn) => {
        await signIn();
        const answers = [rejected(endless())];
        intercept = path => path === "/api/protected" && answers.pop();
        const response = await client.fetch(`${base}/api/protected`);
        return response.status;
    }""",
        200,
    ),
    "stream without an end": (
        """async (client, signIn) => {
        await signIn();
        const headers = { "Content-Type": "text/event-stream" };
        intercept = path => path === "/api/protected" && new Response(endless(), { status: 403, headers });
        const response = await client.fetch(`${base}/api/protected`);
        return response.status;
    }""",
        403,
    ),
    "error that breaks off": (
        """async (client, signIn) => {
        await signIn();
        const broken = new ReadableStream({ start: stream => stream.error(new TypeError("lost")) });
        const headers = { "Content-Type": "application/json" };
        intercept = path => path === "/api/protected" && new Response(broken, { status: 403, headers });
        const response = await client.fetch(`${base}/api/protected`);
        return [response.status, await response.json().catch(({ message }) => message)];
    }""",
        [403, "lost"],
    ),
    "worker is online again": (
        """async (client, signIn) => {
        await signIn();
        client.close();
        const { setTimeout } = globalThis;
        globalThis.setTimeout = (work, delay) => (delay < 5000 ? setTimeout(work, delay) : 0); // it does not try again
        const other = createClient({ baseUrl: base });
        const changed = new Promise(resolve => other.onChange(({ reason }) => resolve(reason)));
        intercept = () => { throw new TypeError("offline"); };
        const found = [await other.restore(), other.state];
        intercept = () => null;
        scope.dispatchEvent(new Event("online"));
        found.push(await changed);
        other.close();
        globalThis.setTimeout = setTimeout;
        return found;
    }""",
        [None, "unknown", "signed-in"],
    ),
    "keepalive is refused": (
        """async (client, signIn) => {
        intercept = (path, { body, keepalive }) => {
            if (body && keepalive) throw new TypeError("Failed to fetch");
        };
        await signIn();
        await client.reauthenticate(password);
        await client.changePassword(password, "another one entirely 99");
        return [client.state, await client.fetch(`${base}/api/protected`).then(({ status }) => status)];
    }""",
        ["signed-in", 200],
    ),
    "end is past when the page is shown": (
        """async (client, signIn) => {
        await signIn();
        const seen = [];
        client.onChange(({ reason }) => seen.push(reason));
        await at(31 * 86_400_000, () => document.dispatchEvent(new Event("visibilitychange")));
        return seen;
    }""",
        [],
    ),
    "errors of a gateway": (
        """async (client, signIn) => {
        const found = [];
        const bodies = [{ code: 403, message: ["No"] }, { code: null }, "No", null, { code: "mine", message: "No" }];
        for (const body of bodies) {
            intercept = () => Response.json(body, { status: 403 });
            found.push(await signIn().catch(({ code, message }) => [code, message]));
        }
        return found;
    }""",
        [["unknown", "The service responded with status 403."]] * 4 + [["mine", "No"]],
    ),
    "date to retry after by another clock": (
        """async (client, signIn) => {
        const ahead = milliseconds => new Date(Date.now() + milliseconds).toUTCString();
        const headers = { Date: ahead(18_000_000), "Retry-After": ahead(18_060_000) };
        intercept = () => Response.json({ code: "service_unavailable" }, { status: 503, headers });
        return signIn().catch(error => error.retryAfter);
    }""",
        60,
    ),
    "pause without an end": (
        """async (client, signIn) => {
        await signIn();
        const headers = { "Retry-After": "9".repeat(20) };
        intercept = () => Response.json({ code: "service_unavailable" }, { status: 503, headers });
        const day = () => client.getToken().catch(error => error.code);
        const found = [await at(86_400_000, day)];
        intercept = () => null;
        return [...found, typeof await at(2 * 86_400_000, client.getToken)];
    }""",
        ["service_unavailable", "string"],
    ),
    "pause before a sign-in": (
        """async (client, signIn) => {
        const headers = { "Retry-After": "600" };
        const unavailable = Response.json({ code: "service_unavailable" }, { status: 503, headers });
        const answers = { "/api/token": [unavailable], "/api/protected": [rejected()] };
        intercept = path => answers[path]?.pop();
        await client.restore();
        await signIn();
        const response = await client.fetch(`${base}/api/protected`);
        return response.status;
    }""",
        200,
    ),
    "token without an expiry": (
        """async (client, signIn) => {
        intercept = () => Response.json({ accessToken: "a.e30.b" });
        return signIn().catch(error => error.code);
    }""",
        "network_error",
    ),
    "refresh hangs": (
        """async (client, signIn) => {
        await signIn();
        const before = await client.getToken();
        intercept = path => path === "/api/token" && never();
        return await at(850_000, client.getToken) === before;
    }""",
        True,
    ),
}


@pytest.fixture(scope="module")
def results(shared_app: Flask) -> dict[str, Any]:
    """Give the result of each scenario."""
    with shared_app.app_context():
        for number in range(len(SCENARIOS)):
            create_user(shared_app, f"user{number}")
    server = make_server("127.0.0.1", 0, shared_app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    listed = ", ".join(f"[{json.dumps(name)}, {script}]" for name, (script, _) in SCENARIOS.items())
    script = f"""
        import {{ createClient }} from "{MODULE.as_uri()}";
        {BROWSER}
        const base = "http://127.0.0.1:{server.port}", password = {json.dumps(PASSWORD)}, results = {{}};
        for (const [number, [name, run]] of [{listed}].entries()) {{
            [cookie, sent, intercept] = ["", [], () => null];
            setLocks(undefined);
            const client = createClient({{ baseUrl: base }});
            const late = new Promise((_, reject) => start(reject, 20_000, new Error("late")));
            const signIn = () => client.signIn(`user${{number}}`, password);
            results[name] = await Promise.race([run(client, signIn), late]).catch(String);
            client.close();
        }}
        console.log(JSON.stringify(results));
        process.exit();"""
    command = [find_program("node"), "--input-type=module", "--eval", script]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    finally:
        server.shutdown()
        server.server_close()
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("name", SCENARIOS)
def test_client_copes(results: dict[str, Any], name: str) -> None:
    assert results[name] == SCENARIOS[name][1]
