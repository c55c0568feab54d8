"""Secrets that are read from files, through the settings that end in ``_FILE``."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.settings import FALLBACK_NAMES, LEAK, SECRET_NAMES, STRONG, problems_of, production
from tokenapp.config import FILE_SETTINGS, SETTINGS, load

ADDRESSES: Final = {
    "DATABASE_URL": "postgresql://u@h/name",
    "RATELIMIT_STORAGE_URI": "redis://:p@h",
    "TOKENAPP_SMTP_URL": "smtps://u:p@h",
}


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


CONTENTS: Final = {
    "no text": (b"\n", "it is empty"),
    "UTF-8 with BOM": (b"\xef\xbb\xbf" + STRONG.encode(), "it begins with a byte order mark (BOM); save it as UTF-8"),
    "UTF-16": (STRONG.encode("utf-16"), "it is UTF-16 text"),
    "UTF-16, big-endian": (b"\xfe\xff" + STRONG.encode("utf-16-be"), "it is UTF-16 text"),
    "UTF-16 without BOM": (STRONG.encode("utf-16-le"), "it is UTF-16 text"),
    "Latin-1": ("Zür1ch-".encode("latin-1") + STRONG.encode(), "it is not UTF-8 text"),
    "in quotes": (f'"{STRONG}"\n'.encode(), "its text must be written without quotes"),
    "in single quotes": (f"'{STRONG}'\r\n".encode(), "its text must be written without quotes"),
    "in typographic quotes": (f"\u201c{STRONG}\u201d".encode(), "its text must be written without quotes"),
    "zero-width space": (f"{STRONG}\u200b\n".encode(), "its text contains the invisible character U+200B"),
    "two lines": (f"{STRONG}\n{STRONG}\n".encode(), "its text contains the invisible character U+000A"),
}


@pytest.mark.parametrize("name", ["SECRET_KEY_FILE", "DATABASE_URL_FILE"])
@pytest.mark.parametrize(("content", "sentence"), CONTENTS.values(), ids=CONTENTS)
def test_file_that_contains_no_plain_text_is_the_one_problem(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(content)
    environ = {key: value for key, value in production().items() if key != name.removesuffix("_FILE")}
    [problem] = problems_of({**environ, name: str(tmp_path / "secret")}, tmp_path)
    assert problem.startswith(f"{name} cannot be read: {sentence}")
    assert STRONG not in problem


@pytest.mark.parametrize("name", sorted(FILE_SETTINGS))
@pytest.mark.parametrize("env", ["production", "development"])
def test_file_that_does_not_exist_is_not_replaced_by_a_default(name: str, env: str, tmp_path: Path) -> None:
    environ = {key: value for key, value in production().items() if key != name.removesuffix("_FILE")}
    problems = problems_of({**environ, "TOKENAPP_ENV": env, name: "/nonexistent/secret"}, tmp_path / "instance")
    assert problems == [f"{name} cannot be read: the file does not exist"]
    assert not (tmp_path / "instance/secret_key").exists()


def test_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(STRONG)
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "file" / "below", "Not a directory")):
        problems = problems_of(production(ACCESS_TOKEN_SECRET_FILE=str(path)), tmp_path)
        assert problems == [f"ACCESS_TOKEN_SECRET_FILE cannot be read: {reason}"]


def test_name_of_a_file_in_quotes_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(STRONG[::-1])
    problems = problems_of(production(ACCESS_TOKEN_SECRET_FILE=f'"{tmp_path}/secret"'), tmp_path)
    assert problems == ["ACCESS_TOKEN_SECRET_FILE must be written without quotes"]


def test_empty_file_name_is_ignored(tmp_path: Path) -> None:
    assert problems_of(production(**dict.fromkeys(FILE_SETTINGS, "")), tmp_path) == []


def test_weak_secret_in_a_file_is_a_problem_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(LEAK)
    environ = {"TOKENAPP_ISSUER": "https://a.example", "SECRET_KEY_FILE": str(path)}
    assert problems_of(environ, tmp_path) == ["SECRET_KEY is weak: it needs at least 32 random bytes"]
