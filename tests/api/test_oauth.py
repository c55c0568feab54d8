"""The key set, the metadata, and the credentials that each route accepts."""

from collections.abc import Mapping
from typing import Any, Final

import jwt as pyjwt
import pytest
import sqlalchemy as sa
from flask import Flask
from joserfc import jwt as jose
from joserfc.jwk import KeySet

from tests.conftest import Servers
from tests.support.app import create_user, make_app
from tests.support.client import Client, sign_in
from tests.support.commandline import error_of, run, run_json
from tests.support.server import free_port
from tests.support.service_clients import ServiceClient, basic, register
from tokenapp import db, keys
from tokenapp.models import Client as StoredClient

JWKS: Final = "/.well-known/jwks.json"


def test_key_set_has_public_members_only_and_a_lifetime(app: Flask) -> None:
    create_user(app)
    sign_in(app)
    response = Client(app).send("GET", JWKS)
    assert (response.status, response.header("Content-Type")) == (200, "application/jwk-set+json")
    assert response.header("Cache-Control") == "public, max-age=300"
    (jwk,) = response.json["keys"]
    assert set(jwk) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert jwk["kid"] == keys.thumbprint(jwk)


def test_other_libraries_verify_access_tokens_with_the_key_set(app: Flask) -> None:
    create_user(app)
    token = sign_in(app).token or ""
    key_set = Client(app).send("GET", JWKS).json
    claims = jose.decode(token, KeySet.import_key_set(key_set), algorithms=["ES256"]).claims
    assert claims["username"] == "alice"
    key = pyjwt.PyJWKSet.from_dict(key_set)[pyjwt.get_unverified_header(token)["kid"]]
    assert pyjwt.decode(token, key, algorithms=["ES256"], audience="tokenapp-api") == claims


def test_jwk_client_of_pyjwt_finds_the_key_over_http(app: Flask, database_url: str, serve: Servers) -> None:
    create_user(app)
    port = serve(database_url).port
    token = sign_in(port).token or ""
    key = pyjwt.PyJWKClient(f"http://127.0.0.1:{port}{JWKS}").get_signing_key_from_jwt(token)
    assert pyjwt.decode(token, key, algorithms=["ES256"], audience="tokenapp-api")["username"] == "alice"
    with pytest.raises(pyjwt.InvalidAudienceError):
        pyjwt.decode(token, key, algorithms=["ES256"], audience="another")


def test_metadata_lists_existing_routes(app: Flask) -> None:
    metadata = Client(app).send("GET", "/.well-known/oauth-authorization-server").json
    issuer = metadata["issuer"]
    paths = {value.removeprefix(issuer) for name, value in metadata.items() if name.endswith(("_uri", "_endpoint"))}
    assert paths == {JWKS, "/api/introspect", "/api/revoke"}
    assert paths <= {rule.rule for rule in app.url_map.iter_rules()}


def test_each_route_accepts_its_own_kind_of_credential_only(app: Flask) -> None:
    create_user(app)
    client, service = sign_in(app), register(app)
    credentials: dict[str, Mapping[str, Any]] = {
        "none": {},
        "access token as bearer": {"bearer": client.token},
        "refresh token as bearer": {"bearer": client.cookie},
        "access token as cookie": {"cookie": client.token},
        "refresh token as cookie": {"cookie": client.cookie},
        "client": {"headers": service.credentials},
    }
    routes: list[tuple[str, str, Mapping[str, Any], str]] = [
        ("GET", "/api/protected", {}, "access token as bearer"),
        ("GET", "/api/me", {}, "access token as bearer"),
        ("GET", "/api/sessions", {}, "access token as bearer"),
        ("GET", "/api/verify", {}, "access token as bearer"),
        ("POST", "/api/token", {}, "refresh token as cookie"),
        ("POST", "/api/introspect", {"form": {"token": "x"}}, "client"),
        ("POST", "/api/revoke", {"form": {"token": "x"}}, "client"),
        ("GET", "/api/revocations", {}, "client"),
    ]
    for method, path, sent, expected in routes:
        accepted = {
            name
            for name, credential in credentials.items()
            if client.send(method, path, **sent, **credential).status < 400
        }
        assert accepted == {expected}, path


def test_client_is_created_listed_and_deleted_by_commands(app: Flask) -> None:
    create_user(app)
    token = sign_in(app).token or ""
    created = run_json(app, "clients", "create", "shop", "--right", "introspect")
    service = ServiceClient(Client(app), created["id"], created["secret"])
    assert service.is_active(token)
    listed = run(app, "clients", "list", "--json").stdout
    assert created["id"] in listed
    assert created["secret"] not in listed
    run(app, "clients", "delete", created["id"], "--yes")
    assert service.post("/api/introspect", token=token).status == 401
    assert error_of(run(app, "clients", "delete", created["id"], "--yes", code=1)) == "Client not found."


def test_secret_of_a_client_is_stored_as_a_hash(app: Flask) -> None:
    service = register(app)
    with app.app_context():
        rows = db.execute_now(sa.select(StoredClient.__table__).where(StoredClient.id == service.id))
    assert service.secret not in str(rows)


def test_routes_for_clients_are_503_without_a_database() -> None:
    client = Client(make_app(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"))
    headers = basic("client-x", "secret")
    for response in (
        client.send("POST", "/api/introspect", form={"token": "x"}, headers=headers),
        client.send("POST", "/api/revoke", form={"token": "x"}, headers=headers),
        client.send("GET", "/api/revocations", headers=headers),
    ):
        assert (response.status, response.code) == (503, "service_unavailable")
        assert response.header("Retry-After") is not None
