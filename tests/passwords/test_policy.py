"""Which new passwords the policy accepts, and the reason when it rejects one."""

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application
from tests.support.concurrency import at_once
from tokenapp import errors
from tokenapp.passwords import policy

TOO_EASY = "This password is too easy to guess."


@pytest.fixture
def standard(databases: Databases) -> Iterator[Flask]:
    """Provide an application context with the default minimum: fifteen characters."""
    with application(databases("sqlite")) as app, app.app_context():
        yield app


@pytest.fixture
def shortest(databases: Databases) -> Iterator[Flask]:
    """Provide an application context with the lowest minimum: eight characters."""
    with application(databases("sqlite"), TOKENAPP_PASSWORD_MIN_LENGTH="8") as app, app.app_context():
        yield app


def rejection(password: str, username: str = "alice") -> str | None:
    """Return the reason why a password is rejected, or None if it is accepted."""
    try:
        policy.check(password, username)
    except errors.PasswordRejected as error:
        return error.detail
    return None


# Length.


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("fourteen chars", "The password must have at least 15 characters."),
        ("é" * 7 + "x", "The password must have at least 15 characters."),
        ("x" * 1025, "The password must have at most 1024 bytes."),
        ("€uro" * 200, "The password must have at most 1024 bytes."),
        ("long enough \x00 but", "The password must not contain a NUL character."),
    ],
)
def test_password_of_a_bad_length_or_with_nul_is_rejected(password: str, reason: str) -> None:
    assert rejection(password) == reason


@pytest.mark.usefixtures("standard")
def test_password_of_1024_bytes_is_accepted() -> None:
    longest = "correct horse battery staple" + "é" * 498
    assert len(longest.encode()) == 1024
    assert rejection(longest) is None


@pytest.mark.usefixtures("standard")
def test_length_is_counted_in_the_form_that_is_hashed() -> None:
    decomposed = unicodedata.normalize("NFD", "é" * 14)
    assert len(decomposed) == 28
    assert rejection(decomposed) == "The password must have at least 15 characters."


# Strength.


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    "password",
    [
        "aaaaaaaaaaaaaaaa",
        "              x",
        "a" + "b" * 13 + "c",
        "abcabcabcabcabcabc",
        "abcdefghijklmno",
        "iloveyouiloveyou",
        "Password123456!",
        "password12345678",
        "qwertyuiopASDFGHJKL",
        "tokenapptokenapp",
        "TokenAppTokenApp1",
    ],
)
def test_password_that_is_easy_to_guess_is_rejected(password: str) -> None:
    assert rejection(password) == TOO_EASY


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("username", ["zwqkvbxjmfyp", "zwqkvbxj.mfypgwtd@qhsnc.example", "x7-" * 21])
def test_user_name_as_password_is_rejected_for_its_user_only(username: str) -> None:
    for password in (username * 2, username.upper() * 2, f"{username}{username}1", f"{username * 4}"):
        assert rejection(password, username) == TOO_EASY
    assert rejection("zwqkvbxjmfyp" * 2, "alice") is None


@pytest.mark.usefixtures("standard")
def test_concurrent_estimates_do_not_mix_up_user_names(standard: Flask) -> None:
    names = ["zwqkvbxjmfyp", "gtdhsncqpfxj", "wkxvhzbqdtnr", "fjqgkcmvxzws"]

    def rejected(name: str) -> bool:
        with standard.app_context():
            return all(rejection(name * 2, name) == TOO_EASY for _ in range(20))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        assert at_once(*[partial(rejected, name) for name in names]) == [True] * len(names)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.usefixtures("shortest")
@pytest.mark.parametrize("password", ["password", "PassWord1", "football1", "12345678"])
def test_common_password_is_rejected_with_a_shorter_minimum(password: str) -> None:
    assert rejection(password) == TOO_EASY


@pytest.mark.usefixtures("shortest")
def test_short_random_password_is_accepted_with_a_shorter_minimum() -> None:
    assert rejection("x7#Qm2vL9t") is None


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "пароль, который никто не знает",
        "私の長いパスワードはとても安全です",
        "🦊🐇🌲🌙🦉🍂🪨💧🌾🐚🪶🔥🌊🗻🌈",
        "z8k q7m w3t x5v",
        " spaces  before and  after ",
        "only lower case letters without a number",
        "I am Alice, let me in",
        "i love TokenApp so much",
    ],
)
def test_long_passphrase_is_accepted_regardless_of_its_characters(password: str) -> None:
    assert rejection(password) is None


@pytest.mark.usefixtures("standard")
def test_very_short_user_name_excludes_no_password() -> None:
    assert rejection("everybody has an a in it", "a") is None


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("start", ["a" * 100, "correct horse battery staple".ljust(100, "x")], ids=["weak", "strong"])
def test_only_the_first_100_characters_are_estimated(start: str) -> None:
    # The estimate of 1,000 characters at once would take more than a minute.
    endings = ["", "b" * 900, "x7#Qm2vL9t" * 90]
    assert len({rejection(start + ending) for ending in endings}) == 1


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("password", ["4@8({[<369&#!1/|0$5+%7>2" * 40, "a" * 1000, "4$5@0!7+1|" * 100])
def test_estimate_makes_a_bounded_number_of_function_calls(password: str) -> None:
    calls: Counter[str] = Counter()
    profiler = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: calls.update([event]))
    try:
        rejection(password)
    finally:
        sys.setprofile(profiler)
    # The estimate of 100 characters at once would make up to 330,000.
    assert calls["call"] + calls["c_call"] < 130_000
