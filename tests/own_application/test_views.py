"""Views of another application, registered on that of the service."""

from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from flask import Blueprint, Flask, abort, request
from flask_jwt_extended import current_user, get_jwt, get_jwt_identity, jwt_required
from openapi_spec_validator import validate
from werkzeug.exceptions import TooManyRequests

from tests.support.app import create_user
from tests.support.client import Client, claims_of, sign_in
from tests.support.forge import issue

PROBLEM = "application/problem+json"


@pytest.fixture
def shop(app: Flask) -> Flask:
    """Return the application with the views of a shop, and one user."""
    orders = Blueprint("orders", __name__, url_prefix="/orders")

    @orders.get("/mine")
    @jwt_required()  # type: ignore[untyped-decorator]  # the library has no types for it
    def mine() -> dict[str, Any]:
        return {"sub": get_jwt_identity(), "name": get_jwt()["username"]}

    @orders.get("/optional")
    @jwt_required(optional=True)  # type: ignore[untyped-decorator]  # as above
    def optional() -> dict[str, Any]:
        return {"sub": get_jwt_identity()}

    @orders.delete("/all")
    @jwt_required(fresh=True)  # type: ignore[untyped-decorator]  # as above
    def remove() -> str:
        return ""

    @orders.post("/file")
    def upload() -> dict[str, int]:
        return {"size": len(request.get_data())}

    @orders.get("/fail/<int:status>")
    def fail(status: int) -> str:
        abort(status, "Not with this view.")

    @orders.get("/busy")
    def busy() -> str:
        raise TooManyRequests(retry_after=7)

    @orders.get("/bug")
    def bug() -> str:
        raise RuntimeError

    app.register_blueprint(orders)
    app.add_url_rule("/without-view", endpoint="nothing")
    vars(mine)["endpoint"] = "a name that the service uses too"
    create_user(app)
    return app


def test_view_gets_the_claims_of_the_token(shop: Flask) -> None:
    client = sign_in(shop)
    assert client.token
    expected = {"sub": claims_of(client.token)["sub"], "name": "alice"}
    for scheme in ("Bearer", "bearer", "BEARER"):
        response = client.send("GET", "/orders/mine", headers={"Authorization": f"{scheme} {client.token}"})
        assert (response.status, response.json) == (200, expected)
    assert client.send("GET", "/orders/optional").json == {"sub": None}


@pytest.mark.parametrize("bearer", ["x", "a.b.c", "", "x y", "x,,y", ", x"])
def test_malformed_token_is_a_problem(shop: Flask, bearer: str) -> None:
    response = Client(shop).send("GET", "/orders/mine", bearer=bearer)
    assert response.status in {401, 403}
    assert response.header("Content-Type") == PROBLEM
    assert response.code in {"access_token_missing", "access_token_invalid"}


def test_each_kind_of_token_gets_the_errors_of_the_service(shop: Flask) -> None:
    client, issued, now = sign_in(shop), issue(shop, "berta"), int(datetime.now(UTC).timestamp())
    missing = client.send("GET", "/orders/mine")
    assert missing.problem == (401, "access_token_missing", "Access token required.")
    assert missing.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api"'
    expired = issued.with_claims("access", iat=now - 100, exp=now - 1)
    for token in (client.cookie, expired, issued.with_claims("access", aud="another"), (client.token or "")[:-4]):
        response = client.send("GET", "/orders/mine", bearer=token)
        assert response.problem == (403, "access_token_invalid", "Access token invalid or expired.")
        assert 'error="invalid_token"' in (response.header("WWW-Authenticate") or "")
        assert response.header("Content-Type") == PROBLEM


def test_token_of_a_revoked_session_is_rejected(shop: Flask) -> None:
    client = sign_in(shop)
    assert client.send("GET", "/orders/mine", bearer=client.token).status == 200
    token = client.token
    client.logout()
    with time_machine.travel(datetime.now(UTC).timestamp() + 1.5):
        assert client.send("GET", "/orders/mine", bearer=token).problem[:2] == (403, "access_token_invalid")


def test_fresh_view_asks_for_the_password_again(shop: Flask) -> None:
    client = sign_in(shop)
    assert client.send("DELETE", "/orders/all", bearer=client.token).status == 200
    with time_machine.travel(datetime.now(UTC).timestamp() + 901):
        client.refresh()
        response = client.send("DELETE", "/orders/all", bearer=client.token)
    assert response.problem[:2] == (401, "reauthentication_required")
    assert 'error="insufficient_user_authentication", max_age="900"' in (response.header("WWW-Authenticate") or "")


def test_unknown_user_of_the_application_is_a_problem(shop: Flask) -> None:
    client, manager = sign_in(shop), shop.extensions["flask-jwt-extended"]
    manager.user_lookup_loader(lambda _header, claims: claims["username"] if claims["username"] != "alice" else None)
    assert client.send("GET", "/orders/mine", bearer=client.token).problem[:2] == (403, "access_token_invalid")
    manager.user_lookup_loader(lambda _header, claims: claims["username"])
    assert client.send("GET", "/orders/mine", bearer=client.token).status == 200
    assert current_user is not None


@pytest.mark.parametrize("size", [16_384, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bodies_are_not_limited_to_those_of_the_service(shop: Flask, size: int, *, chunked: bool) -> None:
    environ = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    response = Client(shop).send("POST", "/orders/file", body=b"x" * size, environ=environ if chunked else None)
    assert (response.status, response.json) == (200, {"size": size})


@pytest.mark.parametrize(
    ("status", "code"), [(400, "bad_request"), (404, "not_found"), (409, "conflict"), (418, "i_m_a_teapot"), (503, "")]
)
def test_aborted_view_keeps_its_status_and_text(shop: Flask, status: int, code: str) -> None:
    response = Client(shop).send("GET", f"/orders/fail/{status}")
    assert response.problem == (status, code or "service_unavailable", "Not with this view.")
    assert response.header("Content-Type") == PROBLEM
    assert response.json["type"] == "about:blank"


def test_headers_of_an_error_are_kept(shop: Flask) -> None:
    response = Client(shop).send("GET", "/orders/busy")
    assert (response.status, response.header("Retry-After")) == (429, "7")


def test_bug_in_a_view_is_a_problem_without_details(shop: Flask) -> None:
    response = Client(shop).send("GET", "/orders/bug")
    assert response.problem[:2] == (500, "internal_error")
    assert "RuntimeError" not in response.text


@pytest.mark.parametrize("path", ["/orders/unknown", "/orders", "/orders/fail/x"])
def test_unknown_path_is_not_found(shop: Flask, path: str) -> None:
    assert Client(shop).send("GET", path).problem[:2] == (404, "not_found")


def test_other_method_is_not_allowed(shop: Flask) -> None:
    response = Client(shop).send("POST", "/orders/mine")
    assert response.problem[:2] == (405, "method_not_allowed")
    assert set((response.header("Allow") or "").split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_document_lists_the_routes_of_the_service_only(shop: Flask) -> None:
    document = Client(shop).send("GET", "/openapi.json").json
    validate(document)
    assert "/api/login" in document["paths"]
    assert [path for path in document["paths"] if path.startswith(("/orders", "/without"))] == []


def test_routes_of_the_service_do_not_change(shop: Flask) -> None:
    client = Client(shop)
    assert client.send("POST", "/api/login", body=b"x" * 20_000).problem[:2] == (413, "request_too_large")
    assert client.send("GET", "/api/unknown").json["type"] == "urn:tokenapp:error:not_found"
