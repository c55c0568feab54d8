"""The responses of the OpenAPI document are those that occur, and no others."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.api import factor_requests
from tests.conftest import Databases
from tests.support.access_keys import create_key, exchange
from tests.support.app import PASSWORD, PRODUCTION, create_user, make_app
from tests.support.client import Client, Response
from tests.support.documented import Documented, check, check_response, document_of, documented_responses, operations
from tests.support.passkey_responses import send_signature, use_passkeys
from tests.support.server import free_port
from tests.support.service_clients import basic, register
from tokenapp import access_keys, accounts, db, errors, one_time_tokens, sessions
from tokenapp.db import execute_now
from tokenapp.models import AccessKey, Session

TOO_LARGE: Final = b"x" * (16 * 1024 + 1)
NEW: Final = "a better pass phrase by far"
JSON: Final = {"Content-Type": "application/json"}
# Values of the path variables.
VARIABLES: Final = {
    "sid": "unknown",
    "name": "start.js",
    "file": "tokenapp.js",
    "factor_id": "x",
    "passkey_id": "x",
    "key_id": "x",
}
_networks = count(1)


class Recorder(Client):
    """A client with a network of its own that keeps all responses."""

    def __init__(self, app: Flask, username: str) -> None:
        super().__init__(app, cookie_name=app.config["TOKENAPP"].cookie_name)
        self.username = username
        self.environ = {"REMOTE_ADDR": f"10.9.{next(_networks)}.1"}
        self.responses: list[tuple[str, str, Response]] = []

    def send(self, method: str, path: str, **more: Any) -> Response:
        """Send one request and keep the response."""
        response = super().send(method, path, environ=self.environ, **more)
        self.responses.append((method, path, response))
        return response

    def sign_in(self) -> None:
        """Sign in as the user of this client."""
        self.login(self.username)


def new_user(app: Flask, username: str) -> Recorder:
    """Create a user and return a client that is not signed in."""
    create_user(app, username)
    return Recorder(app, username)


def check_all(document: Mapping[str, Any], *recorders: Recorder) -> set[Documented]:
    """Compare all responses with the document; return which ones occurred."""
    return {check(document, *each) for recorder in recorders for each in recorder.responses}


# The requests


def request_everything(app: Flask, document: Mapping[str, Any], **headers: str) -> Recorder:
    """Send each route requests that are wrong for most routes and right for some."""
    client = new_user(app, "carol")
    service = register(app).credentials
    without_rights = register(app, "plain", ()).credentials
    owner = new_user(app, "kurt")
    owner.sign_in()
    token_of_key = exchange(app, create_key(owner)["key"])
    requests: list[Callable[[], dict[str, Any]]] = [
        dict,
        lambda: {"body": TOO_LARGE},
        lambda: {"bearer": "nonsense"},
        lambda: {"bearer": "one, Bearer two"},
        lambda: {"cookie": "nonsense"},
        lambda: {"cookie": client.cookie, "headers": {"Sec-Fetch-Site": "cross-site"}},
        lambda: {"headers": {"If-None-Match": "*"}},
        lambda: {"headers": service, "query": "?since=nonsense"},
        lambda: {"headers": without_rights, "form": {"token": "x"}},
        lambda: {"headers": service, "form": {"token": client.token or ""}},
        lambda: {"bearer": client.token, "body": b"{}", "headers": {"Content-Type": "text/plain"}},
        lambda: {"bearer": client.token, "body": b"[]", "headers": JSON},
        lambda: {"bearer": token_of_key},
    ]
    for method, path, _ in operations(document):
        for number, request in enumerate(requests):
            if (method, path) == ("DELETE", "/api/me"):
                with suppress(errors.UsernameTaken):  # the last request may have deleted the account
                    create_user(app, "carol")
            if method != "GET" or not number:  # others may have ended the session
                client.sign_in()
            sent = request()
            sent["headers"] = headers | sent.get("headers", {})
            client.send(method, path.format(**VARIABLES) + sent.pop("query", ""), **sent)
    return client


def use_the_account(app: Flask, username: str) -> Recorder:
    """Sign in, call the routes of the account, change the password, and sign out."""
    client = new_user(app, username)
    client.sign_in()
    for path in (
        *("/api/protected", "/api/me", "/api/sessions?limit=5", "/healthz", "/readyz"),
        *("/docs", "/docs/nothing.js", "/static/nothing.js"),
    ):
        client.call("GET", path)
    client.refresh()
    client.call("POST", "/api/reauthenticate", payload={"password": PASSWORD})
    for password in ("too short", NEW):
        client.call("PUT", "/api/me/password", payload={"currentPassword": PASSWORD, "newPassword": password})
    cookie = client.cookie
    client.logout()
    client.refresh(cookie)
    return client


def revoke_sessions(app: Flask, username: str) -> tuple[Recorder, Recorder]:
    """Revoke sessions in every way, with recent sign-ins and older ones."""
    client, older = new_user(app, username), Recorder(app, username)
    for path in ("/api/sessions/{sid}", "/api/sessions?keep=current", "/api/sessions"):
        client.sign_in()
        age_sessions(app, "authenticated_at", timedelta(minutes=16))
        older.refresh(client.cookie)
        client.call("DELETE", path.format(sid="un%2Fknown"))
        older.call("DELETE", path.format(sid=client.sid))
        client.call("DELETE", path.format(sid="unknown"))
        client.call("DELETE", path.format(sid=client.sid))
    client.sign_in()
    with app.app_context():  # so recently that this process's revocation list may not have it
        sessions.revoke(client.sid, "operator", datetime.now(UTC))
    client.call("POST", "/api/reauthenticate", payload={"password": PASSWORD})
    client.sign_in()
    client.call("DELETE", "/api/sessions?keep=all")
    client.call("GET", "/api/sessions?limit=0")
    age_sessions(app, "expires_at", timedelta(days=8))
    client.refresh()
    return client, older


def use_access_keys(app: Flask, username: str) -> tuple[Recorder, Recorder]:
    """Create, list, use and revoke access keys; present wrong ones, up to the limit."""
    client, older = new_user(app, username), Recorder(app, username)
    client.sign_in()
    created = create_key(client)
    client.call("GET", "/api/me/access-keys")
    client.send("POST", "/api/token", bearer=created["key"])
    client.send("POST", "/api/token", bearer=created["key"], cookie=client.cookie)
    client.send("GET", "/api/verify", bearer=created["key"])
    client.call("DELETE", "/api/me/access-keys/un~known")
    client.call("DELETE", f"/api/me/access-keys/{created['id']}")
    client.send("POST", "/api/token", bearer=created["key"])
    add_keys(app, created["id"])
    client.call("POST", "/api/me/access-keys", payload={"name": "one of many"})
    with app.app_context():
        execute_now(sa.update(AccessKey).values(revoked_at=datetime.now(UTC)))
    client.call("POST", "/api/me/access-keys", payload={"name": "too many new ones"})
    age_sessions(app, "authenticated_at", timedelta(minutes=16))
    older.refresh(client.cookie)
    older.call("POST", "/api/me/access-keys", payload={"name": "too late"})
    url = app.config["TOKENAPP"].database_url.render_as_string(hide_password=False)
    guessing = Recorder(make_app(url, TOKENAPP_ADDRESS_FAILURES="1"), username)
    with time_machine.travel(datetime.now(UTC), tick=False):  # the next minute has a count of its own
        for _ in range(2):
            guessing.send("POST", "/api/token", bearer=access_keys.generate())
        guessing.send("POST", "/api/revoke", form={"token": access_keys.generate()})
    older.responses += guessing.responses
    return client, older


def add_keys(app: Flask, key_id: str) -> None:
    """Store the most keys that one user can create in an hour and have live."""
    now = datetime.now(UTC)
    with app.app_context(), db.writing() as writer:
        owner = writer.scalars(sa.select(AccessKey.user_id).where(AccessKey.id == key_id)).one()
        fields = {"user_id": owner, "name": "CI", "scopes": "", "created_at": now}
        for number in range(access_keys.MAX_NEW):
            days = timedelta(days=number + 1 + access_keys.MAX_KEYS - access_keys.MAX_NEW)
            writer.add(AccessKey(id=db.new_id(now), digest=f"{owner}{number}", expires_at=now + days, **fields))


def guess_passwords(app: Flask) -> list[Recorder]:
    """Send wrong passwords to every route that takes one, until it locks."""
    recorders = []
    for method, path, username, field in (
        ("POST", "/api/login", "dora", "password"),
        ("POST", "/api/reauthenticate", "emil", "password"),
        ("PUT", "/api/me/password", "fred", "currentPassword"),
    ):
        client = new_user(app, username)
        client.sign_in()
        for _ in range(6):
            client.call(method, path, payload={"username": username, "newPassword": NEW, field: "not the password"})
        recorders.append(client)
    return recorders


def issue(app: Flask, purpose: one_time_tokens.Purpose, email: str, user_id: str | None = None) -> str:
    """Issue a token as a request for a mail does."""
    with app.app_context(), db.writing() as writer:
        binding = one_time_tokens.Binding(purpose, email, email, user_id, None)
        return one_time_tokens.issue(writer, binding, datetime.now(UTC))


def use_mail(app: Flask) -> Recorder:
    """Register, reset the password, change the address, and delete the account."""
    client = Recorder(app, "greta")
    for path in ("register", "password-reset"):
        for email in ("greta@x.example", "nothing"):
            client.send("POST", f"/api/{path}", payload={"email": email})
    token = issue(app, "registration", "greta@x.example")
    for username, password in (("alice", PASSWORD), ("greta", "short"), ("a\tb", PASSWORD), ("greta", PASSWORD)):
        payload = {"token": token, "username": username, "password": password}
        client.call("POST", "/api/register/complete", payload=payload)
    other = issue(app, "registration", "greta@x.example")
    client.send("POST", "/api/register/complete", payload={"token": other, "username": "greta2", "password": PASSWORD})
    user_id = client.call("GET", "/api/me").json["id"]
    for email in ("greta@y.example", "nothing"):
        client.call("POST", "/api/me/email", payload={"email": email})
    use_links(app, client, user_id)
    return client


def use_links(app: Flask, client: Recorder, user_id: str) -> None:
    """Use links that were mailed to a user, and a temporary password."""
    invalid = {"token": "x", "username": "greta", "password": PASSWORD, "newPassword": NEW}
    owner = create_user(app, "hugo@x.example")
    for purpose, path in (("address", "me/email/complete"), ("undo", "email-change/undo")):
        for email in ("hugo@x.example", "greta@y.example"):
            payload = {"token": issue(app, purpose, email, user_id)}  # type: ignore[arg-type]  # one of them
            client.send("POST", f"/api/{path}", payload=payload)
        client.send("POST", f"/api/{path}", payload=invalid)
    token = issue(app, "reset", "greta@y.example", user_id)
    for password in ("short", PASSWORD):
        client.send("POST", "/api/password-reset/complete", payload={"token": token, "newPassword": password})
    client.send("POST", "/api/password-reset/complete", payload=invalid)
    client.send("POST", "/api/register/complete", payload=invalid)
    with app.app_context():
        accounts.set_password(accounts.get(owner), NEW, datetime.now(UTC), temporary=True)
    for new in (None, "short"):
        client.send("POST", "/api/login", payload={"username": "hugo@x.example", "password": NEW, "newPassword": new})
    client.sign_in()
    client.call("GET", "/api/me/export")
    age_sessions(app, "authenticated_at", timedelta(minutes=16))
    client.refresh()
    for method, path in (("POST", "/api/me/email"), ("DELETE", "/api/me")):
        client.call(method, path, payload={"email": "greta@x.example"})
    client.sign_in()
    client.call("DELETE", "/api/me")


def use_second_factors(app: Flask) -> tuple[Recorder, Recorder]:
    """Use second factors, where they are required and where not."""
    client = Recorder(factor_requests.requiring(app), "ida")
    factor_requests.use_factors(client, "ida", issue(app, "registration", "ida@x.example"))
    weaker = new_user(app, "jan")
    weaker.sign_in()
    factor_requests.use_a_weaker_session(weaker)
    return client, weaker


def request_without_a_database(document: Mapping[str, Any]) -> Recorder:
    """Send a request to each route that needs the database, without one."""
    client = Recorder(make_app(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"), "nobody")
    body = {
        "username": "nobody",
        "password": PASSWORD,
        "email": "nobody@x.example",
        "token": "A" * 43,
        "newPassword": NEW,
        "pending": "A" * 43,
        "method": "totp",
        "code": "000000",
    }
    for method, path, operation in operations(document):
        if "503" in operation["responses"]:
            if {"client": []} in operation["security"]:
                client.send(method, path, form={"token": "x"}, headers=basic("client-x", "secret"))
            else:
                token = "e30.e30.e30"
                client.send(method, path.format(**VARIABLES), payload=body, bearer=token, cookie=token)
    send_signature(client)
    return client


def age_sessions(app: Flask, column: str, age: timedelta) -> None:
    """Set a time of all sessions to the past."""
    with app.app_context():
        execute_now(sa.update(Session).values({column: datetime.now(UTC) - age}))


# The tests


def get_logo(app: Flask, folder: Path) -> Recorder:
    """Get the logo of a service that has one."""
    file = folder / "logo.svg"
    file.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    url = app.config["TOKENAPP"].database_url.render_as_string(hide_password=False)
    client = new_user(make_app(url, TOKENAPP_BRAND_LOGO=str(file)), "lena")
    version = client.send("GET", "/static/logo").header("ETag") or ""
    client.send("GET", "/static/logo", headers={"If-None-Match": version})
    return client


def test_documented_responses_are_those_that_occur(app: Flask, tmp_path: Path) -> None:
    document = document_of(app)
    pia = new_user(app, "pia")
    use_passkeys(app, pia, "pia")
    occurred = check_all(
        document,
        request_everything(app, document),
        use_the_account(app, "alice"),
        *revoke_sessions(app, "ben"),
        *guess_passwords(app),
        *use_access_keys(app, "gerd"),
        use_mail(app),
        pia,
        *use_second_factors(app),
        get_logo(app, tmp_path),
        request_without_a_database(document),
    )
    assert occurred == set(documented_responses(document))


def test_responses_in_production_are_documented(databases: Databases) -> None:
    app = make_app(databases("sqlite"), **PRODUCTION)
    check_all(document_of(app), use_the_account(app, "alice"))


def test_responses_to_other_origins_are_documented(databases: Databases) -> None:
    origin = "https://app.example.com"
    app = make_app(databases("sqlite"), TOKENAPP_ALLOWED_ORIGINS=origin)
    document = document_of(app)
    check_all(document, request_everything(app, document, Origin=origin))


def test_status_of_an_invalid_access_token_is_documented_as_set(databases: Databases) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_INVALID_TOKEN_STATUS="401")
    response = Client(app).send("GET", "/api/me", bearer="nonsense")
    assert check(document_of(app), "GET", "/api/me", response) == ("GET", "/api/me", 401, "access_token_invalid")


@pytest.mark.parametrize(("path", "name"), [("/nowhere", "NotFound"), ("/api/login", "MethodNotAllowed")])
def test_unknown_path_and_method_get_a_documented_response(databases: Databases, path: str, name: str) -> None:
    app = make_app(databases("sqlite"))
    document = document_of(app)
    check_response(document, document["components"]["responses"][name], Client(app).send("GET", path))
