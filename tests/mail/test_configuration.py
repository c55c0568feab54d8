"""The settings of mail, and that nothing of it is loaded without a server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Databases
from tests.support.app import PRODUCTION, ROOT, application, environment
from tests.support.client import Client
from tests.support.commandline import error_of, run
from tests.support.settings import LEAK, development, problems_of, production
from tokenapp.config import load

ROUTES = [
    ("POST", "/api/register"),
    ("POST", "/api/register/complete"),
    ("POST", "/api/password-reset"),
    ("POST", "/api/password-reset/complete"),
    ("POST", "/api/me/email"),
    ("POST", "/api/me/email/complete"),
    ("POST", "/api/email-change/undo"),
    ("GET", "/api/me/export"),
]
LOADED = (
    "import json, sys; from tokenapp.wsgi import app;"
    "print(json.dumps([name for name in sys.modules if name.startswith(('tokenapp', 'smtplib'))]))"
)
OWN = ("mail", "registration", "password_reset", "address_change", "personal_data", "notices", "one_time_tokens")


def loaded(database_url: str, **settings: str) -> set[str]:
    """Return the names of the modules that a server loads."""
    env = environment(DATABASE_URL=database_url, SERVER_SOFTWARE="gunicorn", **PRODUCTION, **settings)
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_nothing_is_loaded_without_a_mail_server(databases: Databases) -> None:
    names = loaded(databases("sqlite"))
    assert "tokenapp.sign_in" in names
    assert "smtplib" not in names
    assert [name for name in names if name.split(".")[1:2] and name.split(".")[1] in OWN] == []
    assert [name for name in names if name.startswith("tokenapp.api.") and name.split(".")[2] in OWN] == []


def test_all_is_loaded_with_a_mail_server(databases: Databases) -> None:
    names = loaded(databases("sqlite"), TOKENAPP_SMTP_URL="smtps://mail.example.com")
    assert {f"tokenapp.{name}" for name in OWN} <= names


def test_routes_do_not_exist_without_a_mail_server(databases: Databases) -> None:
    with application(databases("sqlite"), **PRODUCTION) as app:
        statuses = {
            Client(app).send(method, path, payload={"email": "a@example.com"}).status for method, path in ROUTES
        }
        assert statuses == {404}
        assert "TOKENAPP_SMTP_URL" in error_of(run(app, "mail", "list", code=1))
        assert "TOKENAPP_SMTP_URL" in error_of(run(app, "users", "invite", "a@example.com", code=1))


def test_registration_is_closed_in_production_by_default(databases: Databases) -> None:
    with application(databases("sqlite"), **PRODUCTION, TOKENAPP_SMTP_URL="smtps://mail.example.com") as app:
        statuses = [Client(app).send(method, path, payload={}).status for method, path in ROUTES]
    assert statuses[:2] == [404, 404]
    assert statuses[2:4] == [400, 400]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtps://user:p%40ss@mail.example.com", ("mail.example.com", 465, "tls", "user", "p@ss")),
        ("smtp+starttls://mail.example.com:2525", ("mail.example.com", 2525, "starttls", "", "")),
        ("smtp://127.0.0.1:1025", ("127.0.0.1", 1025, "none", "", "")),
        ("smtp://localhost", ("localhost", 25, "none", "", "")),
        ("smtp://[::1]:25", ("::1", 25, "none", "", "")),
    ],
)
def test_mail_server_is_read(tmp_path: Path, url: str, expected: tuple[object, ...]) -> None:
    assert load(development(TOKENAPP_SMTP_URL=url), tmp_path).smtp == expected


@pytest.mark.parametrize(
    "url",
    [
        "smtp://mail.example.com",
        "http://mail.example.com",
        "smtps://",
        "smtps://user@mail.example.com",
        f"smtps://user:{LEAK}@mail.example.com:0",
        f"smtps://user:{LEAK}@mail.example.com/path",
        f"smtps://user:{LEAK}@mail example.com",
        "smtps://mail.example.com?tls=no",
        "mail.example.com",
        "smtps://[::1",
    ],
)
def test_invalid_mail_server_is_an_error_that_does_not_show_it(tmp_path: Path, url: str) -> None:
    (problem,) = problems_of(production(TOKENAPP_SMTP_URL=url), tmp_path)
    assert problem.startswith("TOKENAPP_SMTP_URL must look like")
    assert LEAK not in problem


@pytest.mark.parametrize("user", [f"us%C3%A9r:{LEAK}", f"user:{LEAK}%FF"])
def test_credentials_that_cannot_be_sent_are_an_error(tmp_path: Path, user: str) -> None:
    (problem,) = problems_of(production(TOKENAPP_SMTP_URL=f"smtps://{user}@mail.example.com"), tmp_path)
    assert problem.startswith("TOKENAPP_SMTP_URL must have an ASCII user and password")
    assert LEAK not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENAPP_MAIL_FROM", "no address"),
        ("TOKENAPP_MAIL_FROM", "A\n <a@example.com>"),
        ("TOKENAPP_REGISTRATION", "yes"),
        ("TOKENAPP_REGISTRATION_DOMAINS", "@example.com"),
        ("TOKENAPP_MAIL_DAILY_LIMIT", "0"),
        ("TOKENAPP_MAIL_CLIENT_LIMIT", "many"),
    ],
)
def test_invalid_value_is_an_error(tmp_path: Path, name: str, value: str) -> None:
    settings = production(TOKENAPP_SMTP_URL="smtps://mail.example.com", **{name: value})
    assert [problem.split()[0] for problem in problems_of(settings, tmp_path)] == [name]


def test_registration_needs_a_mail_server(tmp_path: Path) -> None:
    assert problems_of(production(TOKENAPP_REGISTRATION="open"), tmp_path) == [
        "TOKENAPP_REGISTRATION needs TOKENAPP_SMTP_URL"
    ]
