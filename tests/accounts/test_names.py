"""Which names a new user can have."""

import time
import unicodedata
from collections.abc import Iterator

import idna
import pytest
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.client import Client
from tests.support.commandline import create_user, run
from tokenapp import accounts, errors
from tokenapp.accounts.joiners import is_joiner_in_context
from tokenapp.passwords import policy

ZWNJ, ZWJ = "\u200c", "\u200d"
VIRAMA = "\u094d"
# The BMP and the two planes after it in which people write today. Of newer letters one of the two may know nothing.
SCRIPTS = [
    (0x0600, 0x0900),
    (0x0900, 0x0E00),
    (0x1800, 0x18B0),
    (0xA840, 0xA880),
    (0x10D00, 0x10D40),
    (0x1E900, 0x1E95F),
]
BAD_SCRIPTS = "A user name must not mix scripts that look alike."
INVISIBLE = "A user name must not contain control or invisible characters."


def rejection(name: str) -> str | None:
    """Return the reason why a name is rejected, or None if it is accepted."""
    try:
        accounts.check_username(name)
    except errors.UsernameRejected as error:
        return error.detail
    return None


@pytest.mark.parametrize("char", ["a", "ä", "я", "語", "🦊"])
def test_name_of_254_characters_can_sign_in(app: Flask, char: str) -> None:
    name = char * 254
    create_user(app, name)
    client = Client(app)
    spelling = unicodedata.normalize("NFD", name).upper()
    assert client.login(spelling).status == 200
    assert client.refresh().status == 200
    assert client.protected().json["message"] == f"Welcome, {name}! This is protected data."
    assert client.call("GET", "/api/verify").status == 204
    assert run(app, "users", "show", name).exit_code == 0


@pytest.mark.parametrize("name", ["", "  ", "a" * 255, "ﷺ" * 15])
def test_name_of_another_length_is_rejected(name: str) -> None:
    assert rejection(name) == "A user name must have 1 to 254 characters."


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_long_name_does_not_slow_down_the_password_policy(app: Flask) -> None:
    with app.app_context():
        began = time.process_time()
        policy.check(PASSWORD, "zwqkvbxjmfypgtdhsncqpfxj@" + "wkxvhzbqdtnr." * 17 + "example")
        assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "name",
    [
        "иван@example.com",
        "ivan@пример.рф",
        "אברהם@example.com",
        "σοφία@пример.рф",
        "иван＠example.com",  # noqa: RUF001 -- a fullwidth sign
        "@иван@ivan",
    ],
)
def test_each_side_of_an_at_sign_has_its_own_script(name: str) -> None:
    assert rejection(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "ivаn@example.com",  # noqa: RUF001 -- a Cyrillic letter
        "иван@exаmple.com",  # noqa: RUF001
        "иван@пример.com",
        "alic\u0435",
        "a@b@ivаn",  # noqa: RUF001
    ],
)
def test_scripts_mixed_on_one_side_are_rejected(name: str) -> None:
    assert rejection(name) == BAD_SCRIPTS


@pytest.mark.parametrize(
    "name",
    [
        f"علی{ZWNJ}رضا",
        f"علی{ZWNJ}رضا@example.com",
        f"شبَ{ZWNJ}نم",  # a vowel sign stands between the letter and the joiner
        f"می{ZWNJ}خواهم",
        f"क{VIRAMA}{ZWJ}ष",
        f"क{VIRAMA}{ZWNJ}ष",
        f"නිව{chr(0x0DCA)}{ZWJ}ය",
    ],
)
def test_joiners_are_allowed_where_they_have_an_effect(name: str) -> None:
    assert rejection(name) is None
    assert accounts.canonical(name) == accounts.check_username(name)


@pytest.mark.parametrize(
    "name",
    [
        f"ali{ZWNJ}ce",
        f"alice{ZWJ}",
        f"{ZWNJ}علی",
        f"علی{ZWNJ}",
        f"دا{ZWNJ}ر",  # alef does not join the next letter
        f"علی{ZWJ}رضا",
        f"علی{ZWNJ}{ZWNJ}رضا",
        f"علی{ZWNJ}@رضا",
        f"क{ZWJ}ष",
        f"👩{ZWJ}💻",
        "a\u200bb",
        "a\u2060b",
        "a\u00adb",
        "\ufeffalice",
        "a\u202eb",
        "a\u2066b",
        "a\x7fb",
    ],
)
def test_invisible_characters_are_rejected_elsewhere(name: str) -> None:
    assert rejection(name) == INVISIBLE


def letters() -> Iterator[str]:
    """Yield the letters and marks of scripts that the interpreter knows."""
    for first, end in SCRIPTS:
        for code in range(first, end):
            if unicodedata.category(chr(code))[0] in "LM":
                yield chr(code)


@pytest.mark.parametrize("joiner", [ZWNJ, ZWJ])
def test_context_of_joiners_is_that_of_idna(joiner: str) -> None:
    def agreed(label: str) -> bool:
        place = label.index(joiner)
        return is_joiner_in_context(label, place) == idna.valid_contextj(label, place)

    for letter in letters():
        assert agreed(f"{letter}{joiner}ب"), hex(ord(letter))
        assert agreed(f"ب{joiner}{letter}"), hex(ord(letter))
        assert agreed(f"ب{letter}{joiner}ب"), hex(ord(letter))
