"""Secrets that are read from files, through the settings that end in ``_FILE``."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.settings import FALLBACK_NAMES, LEAK, SECRET_NAMES, STRONG, problems_of, production
from tokenapp.config import FILE_SETTINGS, SETTINGS, load

ADDRESSES: Final = {"DATABASE_URL": "postgresql://u@h/name", "RATELIMIT_STORAGE_URI": "redis://:p@h"}


def test_only_secrets_can_be_read_from_files() -> None:
    assert {setting.name for setting in SETTINGS if setting.secret} == {*SECRET_NAMES, *FALLBACK_NAMES, *ADDRESSES}
    assert {f"{setting.name}_FILE" for setting in SETTINGS if setting.secret} == FILE_SETTINGS


def file_value(name: str) -> str:
    """Return a valid value of a setting that can be read from a file."""
    return ADDRESSES.get(name, STRONG[::-1])


@pytest.mark.parametrize("name", sorted(FILE_SETTINGS))
def test_secret_is_read_from_a_file(name: str, tmp_path: Path) -> None:
    plain = name.removesuffix("_FILE")
    path = tmp_path / "secret"
    path.write_text(f"\n {file_value(plain)} \n")
    environ = {key: value for key, value in production().items() if key != plain}
    from_file = load({**environ, name: str(path)}, tmp_path)
    assert from_file == load({**environ, plain: file_value(plain)}, tmp_path)


@pytest.mark.parametrize("name", sorted(FILE_SETTINGS))
def test_secret_and_file_both_set_is_a_problem(name: str, tmp_path: Path) -> None:
    plain = name.removesuffix("_FILE")
    path = tmp_path / "secret"
    path.write_text(file_value(plain))
    environ = production(**{plain: file_value(plain), name: str(path)})
    assert problems_of(environ, tmp_path) == [f"{plain} and {name} are both set"]


def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xff" * 40)
    for path in (tmp_path / "none", tmp_path, latin, latin / "below"):
        [problem] = problems_of(production(ACCESS_TOKEN_SECRET_FILE=str(path)), tmp_path)
        assert problem.startswith("ACCESS_TOKEN_SECRET_FILE cannot be read: ")


def test_empty_file_contains_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("\n")
    environ = {"TOKENAPP_ISSUER": "https://a.example", "SECRET_KEY_FILE": str(path)}
    [problem] = problems_of(environ, tmp_path)
    assert problem.startswith("SECRET_KEY is not set")


def test_empty_file_name_is_ignored(tmp_path: Path) -> None:
    assert problems_of(production(**dict.fromkeys(FILE_SETTINGS, "")), tmp_path) == []


def test_weak_secret_in_a_file_is_a_problem_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(LEAK)
    environ = {"TOKENAPP_ISSUER": "https://a.example", "SECRET_KEY_FILE": str(path)}
    assert problems_of(environ, tmp_path) == ["SECRET_KEY is weak: it needs at least 32 random bytes"]
