"""Secrets that are weak, published in this project, or used twice."""

import ast
import base64
import re
import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.support.app import PASSWORD, ROOT
from tests.support.settings import FALLBACK_NAMES, SECRET_NAMES, STRONG, development, problems_of, production
from tokenapp.config.checks import PUBLISHED_SECRETS

WEAK: Final = {
    "short": "x1y2z3",
    "one byte short": STRONG[:31],
    "one character": "a" * 64,
    "few characters": "abcabcbca" * 8,
    "few characters in random order": "aabacadaabbccddaacbdbcadbbdacadcbbadcacd",
    "repeated": "Zu8-Qe1rVb7_nXw3" * 4,
    "repeated once": "Zu8-Qe1rVb7_nXw3Lk9p" * 2,
    "the alphabet twice": "abcdefghijklmnopqrstuvwxyz" * 2,
    "from the Express program": "your-access-token-secret",
    "the other one from the Express program": "your-refresh-token-secret",
    "from examples": "change-me",
    "a placeholder": "super-secret-key-change-in-production",
    "digits in order": "12345678901234567890123456789012",
    "a placeholder from a JWT debugger": "your-256-bit-secret-goes-here-1234",
    "from these tests": "a key for tests that is long enough to be taken",
    "from these tests in capitals": "A KEY FOR TESTS THAT IS LONG ENOUGH TO BE TAKEN",
}


@pytest.mark.parametrize("value", WEAK.values(), ids=WEAK.keys())
@pytest.mark.parametrize("name", [*SECRET_NAMES, *FALLBACK_NAMES])
def test_weak_secret_is_a_problem_in_production(name: str, value: str, tmp_path: Path) -> None:
    [problem] = problems_of(production(**{name: value}), tmp_path)
    assert problem == f"{name} is weak: it needs at least 32 random bytes"


def test_secret_of_spaces_is_not_set(tmp_path: Path) -> None:
    [problem] = problems_of(production(SECRET_KEY=" " * 40), tmp_path)
    assert problem.startswith("SECRET_KEY is not set")


def test_secret_of_32_random_bytes_is_strong_in_every_encoding(tmp_path: Path) -> None:
    for _ in range(10):
        raw = secrets.token_bytes(32)
        for value in (raw.hex(), secrets.token_urlsafe(32), secrets.token_urlsafe(48), base64.b64encode(raw).decode()):
            assert problems_of(production(SECRET_KEY=value), tmp_path) == []
    for value in (STRONG[:32], "ä" * 3 + STRONG[:26]):
        assert problems_of(production(SECRET_KEY=value), tmp_path) == []


def test_secret_used_twice_is_a_problem(tmp_path: Path) -> None:
    settings = {"ACCESS_TOKEN_SECRET": STRONG, "REFRESH_TOKEN_SECRET": STRONG[::-1]}
    settings["REFRESH_TOKEN_SECRET_FALLBACKS"] = STRONG[::-1]
    for environ in (production(**settings), development(**settings)):
        problems = problems_of(environ, tmp_path)
        assert problems == [
            "ACCESS_TOKEN_SECRET has the same value as SECRET_KEY: each secret must be different",
            "REFRESH_TOKEN_SECRET_FALLBACKS has the same value as REFRESH_TOKEN_SECRET: each secret must be different",
        ]


def published_secrets() -> set[str]:
    """Return every value that a file of this project assigns to a secret."""
    published = set()
    for path in [*ROOT.glob("*"), *ROOT.glob("docs/**/*"), *ROOT.glob(".ci/*"), *ROOT.glob("bench/**/*")]:
        if path.is_file() and path.suffix not in {".pyc", ".db"} and path.stat().st_size < 10**6:
            text = path.read_text(errors="replace")
            published |= set(re.findall(rf"\b(?:{'|'.join(SECRET_NAMES)})=[\"']?([\w+/=-]{{4,}})", text))
    for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                pairs = list(zip(node.keys, node.values, strict=True))
            elif isinstance(node, ast.keyword) and node.arg:
                pairs = [(ast.Constant(node.arg), node.value)]
            else:
                continue
            published |= {
                value.value
                for name, value in pairs
                if isinstance(name, ast.Constant) and name.value in SECRET_NAMES
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return published | {PASSWORD} | PUBLISHED_SECRETS


def test_secrets_published_in_this_project_are_weak(tmp_path: Path) -> None:
    published = published_secrets()
    assert "a key for tests that is long enough to be taken" in published
    accepted = {value for value in published if value and not problems_of(production(SECRET_KEY=value), tmp_path)}
    assert accepted == set()


@pytest.mark.parametrize("name", ["ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET"])
def test_secret_with_a_comma_is_a_problem(name: str, tmp_path: Path) -> None:
    for environ in (production(**{name: f"{STRONG[1:]},x"}), development(**{name: f"{STRONG[1:]},x"})):
        [problem] = problems_of(environ, tmp_path)
        assert problem == f"{name} must be UTF-8 text without commas, because commas separate the fallbacks"
