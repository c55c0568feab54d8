"""The document of the account page: security policy, content and caching."""

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.client import Client, Response


@pytest.fixture
def page(databases: Databases) -> Response:
    """Give the response to a request for the account page."""
    return get_page(make_app(databases("sqlite")))


def get_page(app: Flask) -> Response:
    return Client(app).send("GET", "/account")


def test_page_loads_only_files_of_the_service_and_parses_no_text_as_script(page: Response) -> None:
    policy = dict(each.split(" ", 1) for each in str(page.header("Content-Security-Policy")).split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_page_states_the_minimum_length_of_a_password(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_PASSWORD_MIN_LENGTH="17")
    assert "At least 17 characters" in get_page(app).text


def test_browsers_revalidate_the_page_at_each_request(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    first = get_page(app)
    assert first.header("Cache-Control") == "public, no-cache"
    again = Client(app).send("GET", "/account", headers={"If-None-Match": str(first.header("ETag"))})
    assert (again.status, again.body) == (304, b"")
