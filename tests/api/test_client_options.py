"""The options of the browser client, checked when it is created, with Node."""

import json
import subprocess
from typing import Any

import pytest

from tests.support.app import ROOT
from tests.support.programs import find_program

MODULE = ROOT / "tokenapp/web/client/tokenapp.js"
PAGE = "globalThis.location = new URL('https://app.example.com/page?a=b#c');"
FRAME = "globalThis.location = new URL('about:blank');"
WRONG = {
    "without a page": ("undefined", "give baseUrl"),
    "without a base": ("{ origins: [] }", "give baseUrl"),
    "host and port": ("{ baseUrl: 'localhost:4150' }", "localhost:4150"),
    "host": ("{ baseUrl: 'login.example.com' }", "login.example.com"),
    "empty": ("{ baseUrl: '' }", "baseUrl"),
    "other scheme": ("{ baseUrl: 'ftp://login.example.com' }", "ftp:"),
    "password": ("{ baseUrl: 'https://a:b@login.example.com' }", "baseUrl"),
    "query": ("{ baseUrl: 'https://login.example.com/?a=b' }", "query"),
    "not a URL": ("{ baseUrl: 'https://' }", "baseUrl"),
    "origins as a string": ("{ baseUrl, origins: 'https://api.example.com' }", "list"),
    "origins as an object": ("{ baseUrl, origins: {} }", "list"),
    "origins as null": ("{ baseUrl, origins: null }", "list"),
    "origin without a scheme": ("{ baseUrl, origins: ['localhost:4150'] }", "origins"),
    "all origins": ("{ baseUrl, origins: ['*'] }", "origins"),
    "relative origin": ("{ baseUrl, origins: ['/api'] }", "origins"),
    "refresh": ("{ baseUrl, refresh: 'never' }", "when-used"),
    "misspelt option": ("{ baseURL: baseUrl }", "baseURL"),
    "text in place of options": ("baseUrl", "needs an object"),
    "URL in place of options": ("new URL(baseUrl)", "needs an object"),
    "null in place of options": ("null", "needs an object"),
}
BASES = {
    "https://login.example.com": "https://login.example.com",
    "https://login.example.com/": "https://login.example.com",
    "https://example.com/auth": "https://example.com/auth",
    "https://example.com/auth/": "https://example.com/auth",
    "HTTP://LOCALHOST:4150": "http://localhost:4150",
    "http://[::1]:4150/a/b": "http://[::1]:4150/a/b",
}
# Where the module was loaded from, and the service that it belongs to.
SOURCES = {
    "https://login.example.com/static/tokenapp.js": "https://login.example.com",
    "https://example.com/auth/static/tokenapp-0.2.0.js": "https://example.com/auth",
    "https://login.example.com/static/tokenapp.js?v=1": "https://login.example.com",
    "https://login.example.com/static/tokenapp-0.2.0.js#a": "https://login.example.com",
    "https://cdn.example.com/assets/tokenapp.js": "https://app.example.com",
    "https://cdn.example.com/static/tokenapp.js.map": "https://app.example.com",
    "https://cdn.example.com/app.js?from=/static/tokenapp.js": "https://app.example.com",
}


def run(script: str) -> Any:
    """Run a module with Node, and return what it prints as JSON."""
    code = f"import {{ createClient }} from '{MODULE.as_uri()}'; {script}"
    command = [
        find_program("node"),
        "--experimental-vm-modules",
        "--no-warnings",
        "--input-type=module",
        "--eval",
        code,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def messages(*options: str, before: str = "") -> list[str]:
    """Return the messages of the errors of `createClient`."""
    script = f"""{before}
        const baseUrl = "https://login.example.com";
        const messages = [{", ".join(f"() => createClient({each})" for each in options)}].map(call => {{
            try {{ call(); }} catch (error) {{ return `${{error.name}}: ${{error.message}}`; }}
        }});
        console.log(JSON.stringify(messages));"""
    return list(run(script))


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """Give the message for each wrong option."""
    return dict(zip(WRONG, messages(*(options for options, _ in WRONG.values())), strict=True))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_option_is_an_error_at_once(found: dict[str, str], case: str) -> None:
    assert found[case].startswith("TypeError: ")
    assert WRONG[case][1] in found[case]


def test_base_may_have_a_path() -> None:
    script = (
        f"console.log(JSON.stringify({json.dumps(list(BASES))}.map(baseUrl => createClient({{ baseUrl }}).baseUrl)))"
    )
    assert run(script) == list(BASES.values())


def test_options_may_be_a_module() -> None:
    script = """const options = await import("data:text/javascript,export const baseUrl = 'https://login.example.com'");
        console.log(JSON.stringify(createClient(options).baseUrl));"""
    assert run(script) == "https://login.example.com"


def test_base_is_the_origin_of_the_page() -> None:
    script = "console.log(JSON.stringify([undefined, '/', '/auth'].map(baseUrl => createClient({ baseUrl }).baseUrl)))"
    origin = "https://app.example.com"
    assert run(PAGE + script) == [origin, origin, f"{origin}/auth"]


def test_base_is_the_service_that_served_the_module() -> None:
    script = f"""
        import {{ readFileSync }} from "node:fs";
        import vm from "node:vm";
        const source = readFileSync(new URL("{MODULE.as_uri()}"), "utf8");
        const baseFor = async url => {{
            const module = new vm.SourceTextModule(source, {{ initializeImportMeta: meta => {{ meta.url = url; }} }});
            await module.link(() => null);
            await module.evaluate();
            return module.namespace.createClient().baseUrl;
        }};
        console.log(JSON.stringify(await Promise.all({json.dumps(list(SOURCES))}.map(baseFor))));"""
    assert run(PAGE + script) == list(SOURCES.values())


def test_page_without_an_origin_needs_a_base() -> None:
    (message,) = messages("{}", before=FRAME)
    assert "give baseUrl" in message


def test_page_without_an_origin_can_give_a_base() -> None:
    script = """const origins = ['https://api.example.com'];
        console.log(JSON.stringify(createClient({ baseUrl: 'https://login.example.com', origins }).baseUrl));"""
    assert run(FRAME + script) == "https://login.example.com"


def test_server_that_renders_pages_has_no_user() -> None:
    script = """const client = createClient({ baseUrl: 'http://127.0.0.1:1' });
    console.log(JSON.stringify([client.state, client.user, client.sessionEndsAt]));"""
    assert run(script) == ["unknown", None, None]
