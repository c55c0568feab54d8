"""A service below a path, behind proxies that strip the prefix or pass it on."""

from typing import Final

import pytest
from flask import Blueprint, Flask, url_for

from tests.conftest import Databases, Servers
from tests.support.app import application, create_user, make_app
from tests.support.client import Client, claims_of, sign_in

ISSUER: Final = "http://localhost:8080/auth"
FIRST_SEGMENTS: Final = ("/account", "/docs", "/static/tokenapp.js", "/openapi.json", "/healthz", "/api/verify")


def below(databases: Databases, issuer: str = ISSUER, **settings: str) -> Flask:
    """Return the application with an issuer that has a path, and the user alice."""
    app = make_app(databases("sqlite"), TOKENAPP_ISSUER=issuer, **settings)
    create_user(app)
    return app


@pytest.fixture
def client(databases: Databases) -> Client:
    """Return a client of the service below /auth."""
    return Client(below(databases))


@pytest.mark.parametrize("prefix", ["", "/auth"])
def test_route_is_served_with_and_without_the_prefix(client: Client, prefix: str) -> None:
    statuses = {path: client.send("GET", prefix + path).status for path in FIRST_SEGMENTS}
    assert statuses == {**dict.fromkeys(FIRST_SEGMENTS, 200), "/api/verify": 401}
    assert client.send("POST", f"{prefix}/api/token").problem[1] == "refresh_token_missing"


@pytest.mark.parametrize("path", ["/authx/healthz", "/auth/auth/healthz", "/AUTH/healthz", "/auth/x"])
def test_other_prefix_is_not_found(client: Client, path: str) -> None:
    assert client.send("GET", path).status == 404


def test_cookie_is_sent_to_all_paths_of_the_host(client: Client) -> None:
    response = client.send("POST", "/auth/api/login", payload={"username": "alice", "password": "x"})
    assert response.status == 401
    assert "; Path=/;" in (client.login().header("Set-Cookie") or "") + ";"


@pytest.mark.parametrize("path", ["/", "/auth", "/auth/", "/account/", "/auth/account/"])
def test_redirect_leads_to_the_account_page_below_the_prefix(client: Client, path: str) -> None:
    response = client.send("GET", path, headers={"Host": "evil.example"})
    assert (response.status, response.header("Location")) == (302, "/auth/account")
    assert client.send("GET", "/auth/account").status == 200


def test_document_names_the_prefix_as_its_server(client: Client) -> None:
    assert client.send("GET", "/openapi.json").json["servers"] == [{"url": "/auth"}]


def test_metadata_is_at_both_addresses_and_names_existing_ones(client: Client) -> None:
    first = client.send("GET", "/.well-known/oauth-authorization-server/auth")
    assert first.status == 200
    assert first.json == client.send("GET", "/auth/.well-known/oauth-authorization-server").json
    assert first.json["issuer"] == ISSUER
    assert first.json["jwks_uri"] == f"{ISSUER}/.well-known/jwks.json"
    assert client.send("GET", "/auth/.well-known/jwks.json").json["keys"]
    assert client.send("GET", "/.well-known/oauth-authorization-server/other").status == 404


def test_tokens_name_the_issuer_with_its_path(databases: Databases) -> None:
    client = sign_in(below(databases))
    assert client.token
    assert claims_of(client.token)["iss"] == ISSUER
    assert client.call("GET", "/auth/api/protected").status == client.protected().status == 200


PATHS: Final = ["/a/b", "/api", "/docs", "/%C3%A9", "/a.b~c", "/login%20here"]


@pytest.mark.parametrize("path", PATHS)
def test_any_path_works(databases: Databases, path: str) -> None:
    client = Client(below(databases, f"http://localhost{path}"))
    assert client.send("GET", f"{path}/healthz").status == client.send("GET", "/healthz").status == 200
    assert client.send("GET", f"{path}/docs/start.js").status == client.send("GET", "/docs/start.js").status == 200
    assert client.send("GET", f"{path}/api/protected").status == client.send("GET", "/api/protected").status == 401
    assert client.send("GET", f"/.well-known/oauth-authorization-server{path}").status == 200
    assert client.send("GET", "/").header("Location") == f"{path}/account"


def test_links_of_other_blueprints_have_the_prefix(databases: Databases) -> None:
    app = below(databases)
    orders = Blueprint("orders", __name__)
    orders.get("/orders")(lambda: url_for("orders.orders"))
    orders.add_url_rule("/orders", "orders", lambda: url_for("orders.orders"))
    app.register_blueprint(orders)
    for path in ("/orders", "/auth/orders"):
        assert Client(app).send("GET", path).text == "/auth/orders"


def test_service_without_a_path_knows_no_prefix(databases: Databases) -> None:
    client = Client(make_app(databases("sqlite")))
    assert client.send("GET", "/").header("Location") == "/account"
    assert client.send("GET", "/?a=b").header("Location") == "/account?a=b"
    assert client.send("GET", "/openapi.json").json["servers"] == [{"url": "/"}]
    assert client.send("GET", "/.well-known/oauth-authorization-server/auth").status == 404


def test_query_of_a_redirect_is_passed_on_as_it_is(databases: Databases) -> None:
    location = Client(make_app(databases("sqlite"))).send("GET", "/?%00=%ff&x=%&y=%0d%0aA:b").header("Location")
    assert location == "/account?%00=%ff&x=%&y=%0d%0aA:b"


def test_prefix_is_set_by_script_name_under_gunicorn(databases: Databases, serve: Servers) -> None:
    url = databases("sqlite")
    with application(url) as app:
        create_user(app)
    client = serve(url, SCRIPT_NAME="/auth").client
    assert client.send("GET", "/auth/openapi.json").json["servers"] == [{"url": "/auth"}]
    assert client.send("GET", "/healthz").status == client.send("GET", "/auth/healthz").status == 200
    assert client.send("GET", "/auth").header("Location") == "/auth/account"
    assert client.login().status == 200
    issuer = client.send("GET", "/.well-known/oauth-authorization-server/auth").json["issuer"]
    assert issuer.endswith("/auth")
