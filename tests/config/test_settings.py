"""Defaults, required settings, contradictions, and the list of all problems."""

import secrets
from pathlib import Path
from typing import Final

import pytest

from tests.support.settings import FALLBACK_NAMES, INVALID, LEAK, SECRET_NAMES, development, problems_of, production
from tokenapp.config import ConfigError, load


def test_production_requires_secret_and_issuer(tmp_path: Path) -> None:
    names = [problem.split()[0] for problem in problems_of({}, tmp_path)]
    assert names == ["SECRET_KEY", "TOKENAPP_ISSUER"]


def test_development_requires_no_settings(tmp_path: Path) -> None:
    settings = load({"TOKENAPP_ENV": "development"}, tmp_path)
    assert settings.issuer == "http://localhost:3005"
    assert settings.database_url.database == str(tmp_path / "tokenapp.db")
    assert not settings.production
    assert load(development(PORT="8080"), tmp_path).issuer == "http://localhost:8080"


def test_variables_of_other_programs_are_ignored(tmp_path: Path) -> None:
    assert problems_of(production(PATH="/bin", FLASK_DEBUG="1", XTOKENAPP_X="1", TOKENAPPX="1"), tmp_path) == []


UNKNOWN: Final = ("TOKENAPP_", "TOKENAPP_DEBUG", "TOKENAPP_SECRET_KEY", "TOKENAPP_env", "TOKENAPP_PORT_FILE")


def test_unknown_name_with_the_prefix_is_a_problem(tmp_path: Path) -> None:
    problems = problems_of(production(**dict.fromkeys(UNKNOWN, "x")), tmp_path)
    assert problems == [f"{name} is not a setting" for name in sorted(UNKNOWN)]


def test_token_lifetime_longer_than_the_session_is_a_problem(tmp_path: Path) -> None:
    problems = problems_of(production(TOKENAPP_REFRESH_LIFETIME="31d"), tmp_path)
    assert problems == ["TOKENAPP_REFRESH_LIFETIME is longer than TOKENAPP_SESSION_LIFETIME"]
    problems = problems_of(production(TOKENAPP_SESSION_LIFETIME="60", TOKENAPP_REFRESH_LIFETIME="60"), tmp_path)
    assert problems == ["TOKENAPP_ACCESS_LIFETIME is longer than TOKENAPP_SESSION_LIFETIME"]


@pytest.mark.parametrize(("script_name", "path"), {"/auth": "/auth", "/a/b/": "/a/b", "/%C3%A9": "/%C3%A9"}.items())
def test_script_name_is_the_path_of_the_issuer(script_name: str, path: str, tmp_path: Path) -> None:
    assert load(development(SCRIPT_NAME=script_name), tmp_path).issuer == f"http://localhost:3005{path}"
    issuer = f"https://auth.example.com{path}"
    assert load(production(SCRIPT_NAME=script_name, TOKENAPP_ISSUER=issuer), tmp_path).base_path == path
    for other in ("https://auth.example.com", f"{issuer}/x"):
        problems = problems_of(production(SCRIPT_NAME=script_name, TOKENAPP_ISSUER=other), tmp_path)
        assert problems == ["SCRIPT_NAME is not the path of TOKENAPP_ISSUER"]


LAX: Final = {
    "TOKENAPP_ISSUER": "http://auth.example.com",
    "TOKENAPP_ALLOWED_ORIGINS": "https://a.example,http://b.example",
    "TOKENAPP_PASSWORD_MEMORY": "19455",
    "TOKENAPP_PASSWORD_PASSES": "1",
}


@pytest.mark.parametrize("name", LAX)
def test_value_for_development_only_is_a_problem_in_production(name: str, tmp_path: Path) -> None:
    [problem] = problems_of(production(**{name: LAX[name]}), tmp_path)
    assert problem.startswith(name)
    assert problem.endswith("in production")
    assert problems_of(development(**{name: LAX[name]}), tmp_path) == []


def test_default_database_in_a_read_only_place_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "instance", Path("/proc/self/instance"), Path("/proc/self")):
        [problem] = problems_of(production(), place)
        assert problem.startswith("DATABASE_URL is not set")
        assert problems_of(production(DATABASE_URL="postgresql://u@h/name"), place) == []


def test_all_problems_are_listed_at_once_and_no_secret_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(INVALID, tmp_path)
    text = str(error.value)
    assert all(problem in text for problem in error.value.problems)
    assert {problem.split()[0] for problem in error.value.problems} == set(INVALID)
    assert text.count("\n") == len(error.value.problems)
    assert LEAK not in text
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


DATABASE_LEAKS: Final = (
    f"postgresql://u:x@h:{LEAK}/name",
    f"postgresql://u:{LEAK}@h",
    f"postgres:u:{LEAK}@h/name",
    f"{LEAK}",
    f"mysql://u:{LEAK}@h/name",
    f"://u:{LEAK}@h/name",
)


@pytest.mark.parametrize("url", DATABASE_LEAKS)
def test_no_part_of_a_database_password_is_shown(url: str, tmp_path: Path) -> None:
    [problem] = problems_of(production(DATABASE_URL=url), tmp_path)
    assert problem.startswith("DATABASE_URL ")
    assert "unter2" not in problem


def test_printed_settings_show_no_database_password(tmp_path: Path) -> None:
    settings = load(production(DATABASE_URL=f"postgresql://u:{LEAK}@h/name"), tmp_path)
    assert LEAK not in str(settings.database_url)
    assert LEAK not in repr(settings)


def test_printed_settings_show_no_secret(tmp_path: Path) -> None:
    secret = {name: secrets.token_urlsafe(48) for name in (*SECRET_NAMES, *FALLBACK_NAMES)}
    settings = load(production(**secret, RATELIMIT_STORAGE_URI=f"redis://:{LEAK}@h"), tmp_path)
    for value in (*secret.values(), LEAK):
        assert value not in repr(settings)
    assert "auth.example.com" in repr(settings)
