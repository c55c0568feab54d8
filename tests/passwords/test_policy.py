"""Which new passwords are taken, and what is said of those that are not."""

import unicodedata
from collections.abc import Iterator

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import make_app
from tokenapp import errors
from tokenapp.passwords import policy


@pytest.fixture
def lenient(databases: Databases) -> Iterator[Flask]:
    """Give an application at the floor of the rule: eight characters."""
    app = make_app(databases("sqlite"), TOKENAPP_PASSWORD_MIN_LENGTH="8")
    with app.app_context():
        yield app


@pytest.fixture
def strict(databases: Databases) -> Iterator[Flask]:
    """Give an application with the rule as it comes."""
    app = make_app(databases("sqlite"))
    with app.app_context():
        yield app


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("fourteen chars", "at least 15 characters"),
        ("é" * 7 + "x", "at least 15 characters"),
        ("x" * 1025, "at most 1024 bytes"),
        ("€uro" * 200, "at most 1024 bytes"),
        ("long enough \x00 but", "NUL"),
        ("I am Alice, let me in", "user name"),
        ("i love TokenApp so much", "name of the service"),
        ("aaaaaaaaaaaaaaaa", "tried first"),
        ("abcabcabcabcabcabc", "tried first"),
        ("password12345678", "tried first"),
        ("qwertyuiopASDFGHJKL", "tried first"),
    ],
)
def test_a_poor_password_is_refused_with_its_reason(password: str, reason: str) -> None:
    with pytest.raises(errors.PasswordRejected) as refusal:
        policy.check(password, "alice")
    assert reason in refusal.value.detail
    assert password not in refusal.value.detail


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "              x",
        "пароль, который никто не знает",
        "🦊🐇🌲🌙🦉🍂🪨💧🌾🐚🪶🔥🌊🗻🌈",
        "a" + "b" * 13 + "c",
        "z8" * 3 + "k" * 500 + "q7",
    ],
)
def test_a_good_password_is_taken_whatever_its_letters(password: str) -> None:
    policy.check(password, "alice")


@pytest.mark.usefixtures("strict")
def test_length_is_counted_in_the_form_that_is_hashed() -> None:
    decomposed = unicodedata.normalize("NFD", "é" * 14)
    assert len(decomposed) == 28
    with pytest.raises(errors.PasswordRejected):
        policy.check(decomposed, "alice")


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("password", ["password", "PassWord1", "football1", "12345678"])
def test_a_shorter_rule_still_refuses_the_common_ones(password: str) -> None:
    with pytest.raises(errors.PasswordRejected, match="password_rejected") as refusal:
        policy.check(password, "alice")
    assert "tried first" in refusal.value.detail


@pytest.mark.usefixtures("strict")
def test_a_very_short_user_name_forbids_nothing() -> None:
    policy.check("everybody has an a in it", "a")
