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


@pytest.mark.parametrize(
    ("address", "listens"),
    [("", "127.0.0.1:8080"), ("0.0.0.0", "0.0.0.0:8080"), ("[::]", "[::]:8080"), ("[::]:4000", "[::]:4000")],
)
def test_port_of_a_platform_is_used_unless_the_address_has_one(tmp_path: Path, address: str, listens: str) -> None:
    assert load(development(PORT="8080", TOKENAPP_BIND=address), tmp_path).bind == listens


def test_variables_of_other_programs_are_ignored(tmp_path: Path) -> None:
    assert problems_of(production(PATH="/bin", FLASK_DEBUG="1", XTOKENAPP_X="1", TOKENAPPX="1"), tmp_path) == []


UNKNOWN: Final = ("TOKENAPP_", "TOKENAPP_DEBUG", "TOKENAPP_SECRET_KEY", "TOKENAPP_env", "TOKENAPP_PORT_FILE")


def test_unknown_name_with_the_prefix_is_a_problem(tmp_path: Path) -> None:
    problems = problems_of(production(**dict.fromkeys(UNKNOWN, "x")), tmp_path)
    assert problems == [f"{name} is not a setting" for name in sorted(UNKNOWN)]


PLATFORM: Final = {
    "TOKENAPP_SERVICE_HOST": "10.96.12.7",
    "TOKENAPP_SERVICE_PORT": "80",
    "TOKENAPP_SERVICE_PORT_HTTP": "80",
    "TOKENAPP_SERVICE_PORT_HTTP_METRICS": "9464",
    "TOKENAPP_PORT": "tcp://10.96.12.7:80",
    "TOKENAPP_NAME": "/web/tokenapp",
    "TOKENAPP_ENV_PATH": "/usr/local/bin:/usr/bin",
    "TOKENAPP_ENV_npm_config_loglevel": "warn",
    "TOKENAPP_1_PORT": "tcp://172.17.0.5:80",
    "TOKENAPP_1_NAME": "/web/tokenapp_1",
    "TOKENAPP_1_ENV_LANG": "C.UTF-8",
    "TOKENAPP_POSTGRES_SERVICE_HOST": "10.96.12.8",
    "TOKENAPP_POSTGRES_SERVICE_PORT": "5432",
    "TOKENAPP_POSTGRES_PORT": "tcp://10.96.12.8:5432",
    "TOKENAPP_POSTGRES_PORT_5432_TCP_ADDR": "10.96.12.8",
    **{
        f"TOKENAPP_PORT_{port}_{protocol}{end}": value
        for port, protocol in (("80", "TCP"), ("443", "TCP"), ("53", "UDP"), ("9899", "SCTP"))
        for end, value in {"": "tcp://10.96.12.7:80", "_ADDR": "10.96.12.7", "_PORT": port, "_PROTO": "tcp"}.items()
    },
}


def test_variables_of_a_platform_are_ignored(tmp_path: Path) -> None:
    assert load(production(**PLATFORM), tmp_path) == load(production(), tmp_path)


NOT_PLATFORM: Final = (
    *("TOKENAPP_SERVICE", "TOKENAPP_SERVICE_HOSTS", "TOKENAPP_SERVICE_URL", "TOKENAPP_BIND_PORT", "TOKENAPP_HOST"),
    *("TOKENAPP_PORT_80", "TOKENAPP_PORT_80_QUIC", "TOKENAPP_PORT_80_TCP_X", "TOKENAPP_COOKIE_NAME", "TOKENAPP_ENVS"),
)


@pytest.mark.parametrize("name", NOT_PLATFORM)
def test_name_that_no_platform_sets_is_a_problem(name: str, tmp_path: Path) -> None:
    assert problems_of(production(**{name: "80"}), tmp_path) == [f"{name} is not a setting"]


def test_mistaken_name_of_the_port_is_a_problem(tmp_path: Path) -> None:
    assert problems_of(production(TOKENAPP_PORT="8080"), tmp_path) == ["TOKENAPP_PORT is not a setting: use PORT"]


# Each setting, by a value other than its default.
EXAMPLES: Final = {
    "PORT": "8080",
    "SCRIPT_NAME": "/",
    "WEB_CONCURRENCY": "3",
    "DATABASE_URL": "postgresql://u@h/name",
    "SECRET_KEY": secrets.token_urlsafe(48),
    "ACCESS_TOKEN_SECRET": secrets.token_urlsafe(48),
    "REFRESH_TOKEN_SECRET_FALLBACKS": secrets.token_urlsafe(48),
    "RATELIMIT_STORAGE_URI": "redis://h",
    "TOKENAPP_ENV": "production",
    "TOKENAPP_ISSUER": "https://login.example.com",
    "TOKENAPP_AUDIENCE": "https://api.example.com",
    "TOKENAPP_BIND": "unix:/run/tokenapp.sock",
    "TOKENAPP_ACCESS_LIFETIME": "5m",
    "TOKENAPP_REVOCATION_DELAY": "2s",
    "TOKENAPP_ALLOWED_ORIGINS": "https://app.example.com,https://b.example.com",
    "TOKENAPP_TRUSTED_PROXIES": "10.0.0.1",
    "TOKENAPP_LOG_FORMAT": "text",
    "TOKENAPP_METRICS_BIND": "127.0.0.1:9464",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_value_is_trimmed(name: str, tmp_path: Path) -> None:
    plain = load(production(**{name: EXAMPLES[name]}), tmp_path)
    assert load(production(**{name: f" \t{EXAMPLES[name]}\xa0\r\n"}), tmp_path) == plain


QUOTES: Final = ("''", "``", "\u201c\u201d", "\u201e\u201c", "\u2018\u2019")


@pytest.mark.parametrize(
    ("name", "quotes"), [*((name, '""') for name in EXAMPLES), *(("SECRET_KEY", quotes) for quotes in QUOTES)]
)
def test_value_in_quotes_is_a_problem_that_says_so(name: str, quotes: str, tmp_path: Path) -> None:
    value = f"{quotes[0]}{EXAMPLES[name]}{quotes[1]}"
    assert problems_of(production(**{name: value}), tmp_path) == [f"{name} must be written without quotes"]


def test_value_that_is_valid_but_for_one_quote_is_a_problem_that_says_so(tmp_path: Path) -> None:
    for name, value in (("TOKENAPP_ENV", '"production'), ("TOKENAPP_ALLOWED_ORIGINS", 'https://a.example,"https://b"')):
        assert problems_of(production(**{name: value}), tmp_path) == [f"{name} must be written without quotes"]


INVISIBLE: Final = ("\u200b", "\u2060", "\u200e", "\xad", "\x07")


@pytest.mark.parametrize(
    ("name", "character"), [*((name, "\ufeff") for name in EXAMPLES), *(("SECRET_KEY", each) for each in INVISIBLE)]
)
def test_invisible_character_is_a_problem_that_names_it(name: str, character: str, tmp_path: Path) -> None:
    for value in (character + EXAMPLES[name], EXAMPLES[name] + character):
        problems = problems_of(production(**{name: value}), tmp_path)
        assert problems == [f"{name} contains the invisible character U+{ord(character):04X}"]


def test_token_lifetime_longer_than_the_session_is_a_problem(tmp_path: Path) -> None:
    problems = problems_of(production(TOKENAPP_REFRESH_LIFETIME="31d"), tmp_path)
    assert problems == ["TOKENAPP_REFRESH_LIFETIME is longer than TOKENAPP_SESSION_LIFETIME"]
    problems = problems_of(production(TOKENAPP_SESSION_LIFETIME="60s", TOKENAPP_REFRESH_LIFETIME="60s"), tmp_path)
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


def test_duration_without_a_unit_is_an_error_that_states_the_units(tmp_path: Path) -> None:
    (problem,) = problems_of(production(TOKENAPP_ACCESS_LIFETIME="15"), tmp_path)
    assert problem == (
        "TOKENAPP_ACCESS_LIFETIME must be a number with its unit "
        "(90s for seconds, 15m for minutes, 12h for hours or 7d for days), from 10s to 1d"
    )
