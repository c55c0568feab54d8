"""Requests of pages of other sites: `Sec-Fetch-Site` and `Origin`."""

from typing import Final

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.http.conftest import ALLOWED_ORIGINS
from tests.support import stored
from tests.support.app import ISSUER, PASSWORD, PRODUCTION, make_app
from tests.support.client import Client

OWN: Final = "http://localhost:3005"
ALLOWED, ALSO_ALLOWED = ALLOWED_ORIGINS
CROSS_SITE: Final = (403, "cross_site_request", "Requests from other sites are not allowed.")
# Pairs of `Sec-Fetch-Site` and `Origin`.
SAME_SITE: Final[list[tuple[str | None, str | None]]] = [
    (None, None),
    ("same-origin", None),
    ("same-origin", OWN),
    ("SAME-ORIGIN", OWN),
    ("none", None),
    (None, OWN),
    (None, OWN.upper()),
    (None, "http://localhost"),  # the host that the client in this process sends
    (None, ALLOWED),
    (None, ALSO_ALLOWED),
    ("cross-site", ALLOWED),
    ("same-site", ALLOWED),
    ("same-origin", "https://proxied.example"),
]
OTHER_SITES: Final[list[tuple[str | None, str | None]]] = [
    ("cross-site", None),
    ("same-site", None),
    ("cross-site", OWN),
    ("same-site", OWN),
    ("cross-site", "https://evil.example"),
    ("", None),
    ("", OWN),
    ("bogus", None),
    ("same-origin, cross-site", None),
    ("same-origin ,none", OWN),
    (None, "https://evil.example"),
    (None, "null"),
    (None, ""),
    (None, "*"),
    (None, "file://"),
    (None, "https://localhost:3005"),
    (None, "http://localhost:3006"),
    (None, "http://localhost:3005/"),
    (None, "http://localhost:3005.evil.example"),
    (None, "http://evil.example/http://localhost:3005"),
    (None, "http://user@localhost:3005"),
    (None, f"{OWN}, https://evil.example"),
    (None, f"{OWN} https://evil.example"),
    (None, "http://app.example.com"),
    (None, "https://app.example.com:444"),
    (None, "https://sub.app.example.com"),
    (None, "https://app.example.com.evil.example"),
    (None, "https://evilapp.example.com"),
    (None, "\xff"),
]


def browser(site: str | None, origin: str | None) -> dict[str, str]:
    """Return the headers by which a browser states the site of a request."""
    headers = {"Sec-Fetch-Site": site, "Origin": origin}
    return {name: value for name, value in headers.items() if value is not None}


@pytest.mark.parametrize(("site", "origin"), SAME_SITE)
def test_own_pages_allowed_origins_and_other_programs_are_served(
    shared: Client, site: str | None, origin: str | None
) -> None:
    headers = browser(site, origin)
    assert shared.refresh(headers=headers).status == 200
    assert shared.send("POST", "/api/logout", headers=headers).status == 204
    assert Client(shared.target).login(headers=headers).status == 200


@pytest.mark.parametrize(("site", "origin"), OTHER_SITES)
def test_request_of_another_site_is_rejected_and_changes_nothing(
    shared_app: Flask, shared: Client, site: str | None, origin: str | None
) -> None:
    before = stored.sessions(shared_app)
    for path in ("/api/token", "/api/logout", "/api/login"):
        body = {"username": "alice", "password": PASSWORD}
        response = shared.send("POST", path, payload=body, cookie=shared.cookie, headers=browser(site, origin))
        assert response.problem == CROSS_SITE
        assert response.cookie is None
    assert stored.sessions(shared_app) == before


def test_bearer_token_is_accepted_from_any_site(shared: Client) -> None:
    for site, origin in OTHER_SITES:
        assert shared.protected(headers=browser(site, origin)).status == 200


def test_in_production_the_host_header_does_not_decide_the_own_origin(databases: Databases) -> None:
    client = Client(make_app(databases("sqlite"), **PRODUCTION), cookie_name="__Host-refreshToken")
    for host in ("evil.example", "evil.example:8080", "10.0.0.1"):
        for scheme in ("http", "https"):
            headers = {"Host": host, "Origin": f"{scheme}://{host}", "X-Forwarded-Host": host}
            response = client.logout(headers=headers, environ={"wsgi.url_scheme": scheme})
            assert response.problem == CROSS_SITE
    for host in ("auth.example.com", "backend:3005"):
        headers = {"Host": host, "Origin": ISSUER}
        assert client.logout(headers=headers).status == 204


def test_in_development_the_host_of_the_request_is_an_own_origin(shared: Client) -> None:
    for origin in ("http://127.0.0.1:3005", "https://127.0.0.1:3005"):  # the scheme is not known behind a proxy
        headers = {"Host": "127.0.0.1:3005", "Origin": origin}
        assert shared.send("POST", "/api/logout", headers=headers).status == 204
