"""Settings: every one with good and bad values, every fault at once, no secret shown; and starting up, for real."""

import ast
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.app import PASSWORD, ROOT, environment
from tokenapp import config
from tokenapp.config import FILE_SETTINGS, SETTINGS, ConfigError, load

SECRET_NAMES: Final = ("SECRET_KEY", "ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET")
FALLBACK_NAMES: Final = tuple(f"{name}_FALLBACKS" for name in SECRET_NAMES)
ADDRESSES: Final = {"DATABASE_URL": "postgresql://u@h/name", "RATELIMIT_STORAGE_URI": "redis://:p@h"}
STRONG: Final = "Zu8-Qe1rVb7_nXw3Lk9pTy5mGd2hJc6s" + secrets.token_urlsafe(16)


def production(**changes: str) -> dict[str, str]:
    """Return the fewest settings with which production starts, with `changes`."""
    return {"SECRET_KEY": STRONG, "TOKENAPP_ISSUER": "https://auth.example.com", **changes}


def development(**changes: str) -> dict[str, str]:
    """Return the settings of a development server, with `changes`."""
    return {"TOKENAPP_ENV": "development", "SECRET_KEY": STRONG, **changes}


def faults_of(environ: Mapping[str, str], instance: Path) -> list[str]:
    """Return the faults that keep `environ` from being used, none if it can be."""
    try:
        load(environ, instance)
    except ConfigError as error:
        return error.faults
    return []


# Each setting by itself.

GOOD: Final[dict[str, dict[str, Any]]] = {
    "SECRET_KEY": {
        STRONG: STRONG,
        f" {STRONG}\n": STRONG,
        "é" * 5 + STRONG: "é" * 5 + STRONG,
    },
    "SECRET_KEY_FALLBACKS": {"": (), f" {STRONG[::-1]} ,, ": (STRONG[::-1],)},
    "DATABASE_URL": {
        "sqlite:////var/lib/tokenapp/x.db": "sqlite:////var/lib/tokenapp/x.db",
        "sqlite+pysqlite:////x.db": "sqlite+pysqlite:////x.db",
        "postgresql://u@h/name": "postgresql+psycopg://u@h/name",
        "postgres://u@h:5433/name": "postgresql+psycopg://u@h:5433/name",
        "postgresql+psycopg:///name?host=/run": "postgresql+psycopg:///name?host=%2Frun",
        "postgresql://u:p@a:5433,b/name?sslmode=require": (
            "postgresql+psycopg://u:***@/name?host=a%2Cb&port=5433%2C&sslmode=require"
        ),
        "postgresql:///name?host=a,b&port=5433,5434": "postgresql+psycopg:///name?host=a%2Cb&port=5433%2C5434",
        "postgresql://u@a,b/name?port=5433": "postgresql+psycopg://u@/name?host=a%2Cb&port=5433",
        "postgresql://u@/name?host=a:5432,[::1]:5433": (
            "postgresql+psycopg://u@/name?host=a%2C%3A%3A1&port=5432%2C5433"
        ),
    },
    "PORT": {"1": 1, "3005": 3005, "65535": 65535, "": 3005},
    "WEB_CONCURRENCY": {"1": 1, "256": 256, "": 2},
    "TOKENAPP_THREADS": {"1": 1, "256": 256, "": 4},
    "ACCESS_TOKEN_SECRET": {"": "", f" {STRONG[::-1]} ": STRONG[::-1]},
    "ACCESS_TOKEN_SECRET_FALLBACKS": {"": (), f" {STRONG[::-1]} ,, ": (STRONG[::-1],)},
    "REFRESH_TOKEN_SECRET": {"": "", f" {STRONG[::-1]} ": STRONG[::-1]},
    "REFRESH_TOKEN_SECRET_FALLBACKS": {"": (), f"{STRONG[::-1]},{STRONG[1:]}": (STRONG[::-1], STRONG[1:])},
    "RATELIMIT_STORAGE_URI": {
        "": "",
        "redis://h": "redis://h",
        "rediss://:p@h:6380/1": "rediss://:p@h:6380/1",
        "valkey://u:p@[::1]:6379/0": "redis://u:p@[::1]:6379/0",
        "unix:///run/valkey.sock": "unix:///run/valkey.sock",
    },
    "TOKENAPP_ENV": {"production": "production", "": "production"},
    "TOKENAPP_ISSUER": {
        "https://a.example": "https://a.example",
        "https://a.example/": "https://a.example",
        "https://a.example:8443/auth": "https://a.example:8443/auth",
        "https://[2001:db8::1]": "https://[2001:db8::1]",
    },
    "TOKENAPP_AUDIENCE": {"https://api.example": "https://api.example", "": "tokenapp-api", "a b"[0]: "a"},
    "TOKENAPP_ACCESS_LIFETIME": {"10": 10, "90s": 90, "15m": 900, "24h": 86400, "1d": 86400, "": 900},
    "TOKENAPP_REFRESH_LIFETIME": {"60": 60, "12h": 43200, "30d": 30 * 86400, "": 7 * 86400},
    "TOKENAPP_SESSION_LIFETIME": {"7d": 7 * 86400, "3660d": 3660 * 86400, "": 30 * 86400},
    "TOKENAPP_REFRESH_GRACE": {"0": 0, "0s": 0, "600": 600, "10m": 600, "": 30},
    "TOKENAPP_REVOCATION_DELAY": {"0.05": 0.05, "1s": 1.0, "60": 60.0, "2.5s": 2.5, "": 1.0},
    "TOKENAPP_JWKS_LIFETIME": {"1s": 1, "5m": 300, "1d": 86400, "": 300},
    "TOKENAPP_ADDRESS_FAILURES": {"1": 1, "100000": 100000, "": 60},
    "TOKENAPP_METRICS_BIND": {"": None, "127.0.0.1:9464": ("127.0.0.1", 9464), "[::1]:9464": ("::1", 9464)},
    "TOKENAPP_PASSWORD_MIN_LENGTH": {"8": 8, "64": 64, "": 15},
    "TOKENAPP_INVALID_TOKEN_STATUS": {"401": 401, "403": 403, "": 403},
    "TOKENAPP_ALLOWED_ORIGINS": {
        "": (),
        "https://a.example": ("https://a.example",),
        "https://A.example , https://b.example:8443,": ("https://a.example", "https://b.example:8443"),
    },
    "TOKENAPP_TRUSTED_PROXIES": {
        "": (),
        "127.0.0.1": ("127.0.0.1/32",),
        "10.0.0.0/8, ::1": ("10.0.0.0/8", "::1/128"),
    },
    "TOKENAPP_LOG_FORMAT": {"json": "json", "text": "text", "": "json"},
    "TOKENAPP_PASSWORD_MEMORY": {"19456": 19456, "4194304": 4194304, "": 19456},
    "TOKENAPP_PASSWORD_PASSES": {"2": 2, "100": 100, "": 2},
}
NO_NUMBER: Final = (
    "-1",
    "+1",
    "1.5",
    "0x10",
    "1e3",
    "ten",
    " 1",
    "1 ",
    "1,",
    "٣",
    "\uff11",
    "9" * 30,
    "None",
    "\udcff",
)
NO_DURATION: Final = ("-1", "1.5m", "15 m", "15M", "m", "1w", "15m30s", "٣", "1e3", "ever", "9999999999", "∞")
NO_ADDRESS: Final = ("a.example", "//a.example", "ftp://a.example", "https://", "https:///x", "javascript:alert(1)")
NO_ADDRESS_EITHER: Final = (
    "https://[::1",
    "https://*.a.example",
    "https://a:port",
    "https://a:99999",
    "https://u:p@a.example",
    "https://a b",
)
BAD: Final[dict[str, tuple[str, ...]]] = {
    "SECRET_KEY": ("\udcff" * 40,),
    "SECRET_KEY_FALLBACKS": ("\udcff" * 40,),
    "DATABASE_URL": (
        "x",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "mysql://u@h/name",
        "postgresql+psycopg2://u@h/name",
        "postgresql+asyncpg://u@h/name",
        "postgresql://u@h:x,g/name",
        "postgresql://u@/name?host=h,",
        "postgresql://u@/name?host=h:5432,g&port=5433",
        "postgresql://u@:5433/name?host=h,g",
        "postgresql://u@h",
        "postgresql://u@h:port/name",
        "http://h/name",
    ),
    "PORT": (*NO_NUMBER, "0", "65536"),
    "WEB_CONCURRENCY": (*NO_NUMBER, "0", "257"),
    "TOKENAPP_THREADS": (*NO_NUMBER, "0", "257"),
    "ACCESS_TOKEN_SECRET": ("\udcff" * 40,),
    "ACCESS_TOKEN_SECRET_FALLBACKS": ("\udcff" * 40,),
    "REFRESH_TOKEN_SECRET": ("\udcff" * 40,),
    "REFRESH_TOKEN_SECRET_FALLBACKS": ("\udcff" * 40,),
    "RATELIMIT_STORAGE_URI": ("x", "redis://", "http://h", "memory://", "redis://h:0", "redis://h:65536", "unix://"),
    "TOKENAPP_ENV": ("dev", "Development", "prod", "PRODUCTION", "test", " production", "1"),
    "TOKENAPP_ISSUER": (*NO_ADDRESS, *NO_ADDRESS_EITHER, "https://a.example?x=1", "https://a.example#x", "https://é"),
    "TOKENAPP_AUDIENCE": ('a"b', "a\\b", "a b", "a\nb", "é", "\x00"),
    "TOKENAPP_ACCESS_LIFETIME": (*NO_DURATION, "9", "0", "25h"),
    "TOKENAPP_REFRESH_LIFETIME": (*NO_DURATION, "59", "0", "367d"),
    "TOKENAPP_SESSION_LIFETIME": (*NO_DURATION, "59", "0", "3661d"),
    "TOKENAPP_REFRESH_GRACE": (*NO_DURATION, "601", "11m"),
    "TOKENAPP_REVOCATION_DELAY": ("0", "0.04", "61", "-1", "nan", "inf", "1e1", "1m", "s", "1_0", "٣", " 1", "one"),
    "TOKENAPP_JWKS_LIFETIME": (*NO_DURATION, "0", "25h"),
    "TOKENAPP_ADDRESS_FAILURES": (*NO_NUMBER, "0", "100001"),
    "TOKENAPP_METRICS_BIND": ("x", "9464", ":9464", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:9464"),
    "TOKENAPP_PASSWORD_MIN_LENGTH": (*NO_NUMBER, "7", "65"),
    "TOKENAPP_INVALID_TOKEN_STATUS": ("400", "200", "40\uff13", "forbidden", "403 "),
    "TOKENAPP_ALLOWED_ORIGINS": (
        *NO_ADDRESS,
        *NO_ADDRESS_EITHER,
        "*",
        "null",
        "https://a.example/",
        "https://a.example/path",
        "https://a.example:443",
        "https://a.example?x",
        "https://a.example;https://b.example",
        "https://a.example https://b.example",
        "https://good.example, bad",
    ),
    "TOKENAPP_TRUSTED_PROXIES": ("localhost", "10.0.0.1/8", "10.0.0", "10.0.0.0/33", "*", "1.2.3.4;5.6.7.8", "::g"),
    "TOKENAPP_LOG_FORMAT": ("JSON", "xml", "yes"),
    "TOKENAPP_PASSWORD_MEMORY": (*NO_NUMBER, "7", "4194305"),
    "TOKENAPP_PASSWORD_PASSES": (*NO_NUMBER, "0", "101"),
}


def test_the_tables_here_know_every_setting() -> None:
    names = {setting.name for setting in SETTINGS}
    assert set(GOOD) == set(BAD) == names
    assert len(names) == len(SETTINGS)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_value_is_taken_and_nothing_is_the_default(name: str, tmp_path: Path) -> None:
    field = name.removeprefix("TOKENAPP_").lower()
    for text, value in GOOD[name].items():
        taken = getattr(load(production(**{name: text}), tmp_path), field)
        assert (taken.render_as_string() if field == "database_url" else taken) == value


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_one_fault_by_its_name(name: str, tmp_path: Path) -> None:
    told = [faults_of(production(**{name: text}), tmp_path) for text in BAD[name]]
    assert [[fault.split()[0] for fault in faults] for faults in told] == [[name]] * len(told)
    # The same sentence whatever the value: so it shows nothing of it.
    assert told == told[:1] * len(told)


def test_without_an_environment_production_asks_for_what_it_needs(tmp_path: Path) -> None:
    names = [fault.split()[0] for fault in faults_of({}, tmp_path)]
    assert names == ["SECRET_KEY", "TOKENAPP_ISSUER"]


def test_development_needs_no_settings_at_all(tmp_path: Path) -> None:
    settings = load({"TOKENAPP_ENV": "development"}, tmp_path)
    assert settings.issuer == "http://localhost:3005"
    assert settings.database_url.database == str(tmp_path / "tokenapp.db")
    assert not settings.production
    assert load(development(PORT="8080"), tmp_path).issuer == "http://localhost:8080"


def test_names_of_other_programs_do_not_matter(tmp_path: Path) -> None:
    assert faults_of(production(PATH="/bin", FLASK_DEBUG="1", XTOKENAPP_X="1", TOKENAPPX="1"), tmp_path) == []


UNKNOWN: Final = ("TOKENAPP_", "TOKENAPP_DEBUG", "TOKENAPP_SECRET_KEY", "TOKENAPP_env", "TOKENAPP_PORT_FILE")


def test_an_unknown_name_of_ours_is_a_fault(tmp_path: Path) -> None:
    faults = faults_of(production(**dict.fromkeys(UNKNOWN, "x")), tmp_path)
    assert faults == [f"{name} is not a setting" for name in sorted(UNKNOWN)]


@pytest.mark.parametrize("name", ["ACCESS_TOKEN_SECRET", "REFRESH_TOKEN_SECRET"])
def test_a_secret_that_could_never_be_listed_as_a_former_one_is_a_fault(name: str, tmp_path: Path) -> None:
    for environ in (production(**{name: f"{STRONG[1:]},x"}), development(**{name: f"{STRONG[1:]},x"})):
        [fault] = faults_of(environ, tmp_path)
        assert fault == f"{name} must not hold a comma: it could never be listed among the former ones"


def test_only_secrets_can_come_from_files() -> None:
    assert {setting.name for setting in SETTINGS if setting.secret} == {*SECRET_NAMES, *FALLBACK_NAMES, *ADDRESSES}
    assert {f"{setting.name}_FILE" for setting in SETTINGS if setting.secret} == FILE_SETTINGS


def test_a_life_longer_than_the_session_is_a_fault(tmp_path: Path) -> None:
    faults = faults_of(production(TOKENAPP_REFRESH_LIFETIME="31d"), tmp_path)
    assert faults == ["TOKENAPP_REFRESH_LIFETIME is longer than TOKENAPP_SESSION_LIFETIME"]
    faults = faults_of(production(TOKENAPP_SESSION_LIFETIME="60", TOKENAPP_REFRESH_LIFETIME="60"), tmp_path)
    assert faults == ["TOKENAPP_ACCESS_LIFETIME is longer than TOKENAPP_SESSION_LIFETIME"]


# All at once, and none of it shown.

LEAK: Final = "Hunter2-Hunter2"
MANY_FAULTS: Final = {
    "SECRET_KEY": LEAK,
    "ACCESS_TOKEN_SECRET": LEAK,
    "REFRESH_TOKEN_SECRET": LEAK,
    "ACCESS_TOKEN_SECRET_FALLBACKS": f"{LEAK},x{LEAK}",
    "REFRESH_TOKEN_SECRET_FALLBACKS": f"y{LEAK}",
    "DATABASE_URL": f"mysql://alice:{LEAK}@db/name",
    "PORT": "0",
    "WEB_CONCURRENCY": "many",
    "TOKENAPP_ISSUER": "http://a.example",
    "TOKENAPP_ACCESS_LIFETIME": "soon",
    "TOKENAPP_REFRESH_GRACE": "1h",
    "TOKENAPP_ALLOWED_ORIGINS": "http://a.example",
    "TOKENAPP_TRUSTED_PROXIES": "proxy",
    "TOKENAPP_PASSWORD_MEMORY": "8",
    "TOKENAPP_PASSWORD_PASSES": "1",
    "TOKENAPP_NO_SUCH_THING": "1",
}


def test_all_faults_are_listed_at_once_and_no_secret_is_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(MANY_FAULTS, tmp_path)
    text = str(error.value)
    assert all(fault in text for fault in error.value.faults)
    assert {fault.split()[0] for fault in error.value.faults} == set(MANY_FAULTS)
    assert text.count("\n") == len(error.value.faults)
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
    [fault] = faults_of(production(DATABASE_URL=url), tmp_path)
    assert fault.startswith("DATABASE_URL ")
    assert "unter2" not in fault


def test_settings_that_are_printed_show_no_database_password(tmp_path: Path) -> None:
    settings = load(production(DATABASE_URL=f"postgresql://u:{LEAK}@h/name"), tmp_path)
    assert LEAK not in str(settings.database_url)
    assert LEAK not in repr(settings)


# Secrets.

WEAK: Final = {
    "short": "x1y2z3",
    "one byte short": STRONG[:31],
    "one letter": "a" * 64,
    "few letters": "abcabcbca" * 8,
    "few letters in no order": "aabacadaabbccddaacbdbcadbbdacadcbbadcacd",
    "repeated": "Zu8-Qe1rVb7_nXw3" * 4,
    "repeated once": "Zu8-Qe1rVb7_nXw3Lk9p" * 2,
    "the alphabet again": "abcdefghijklmnopqrstuvwxyz" * 2,
    "of the old program": "your-access-token-secret",
    "of its other secret": "your-refresh-token-secret",
    "of every example": "change-me",
    "of these tests": "a key for tests that is long enough to be taken",
    "of these tests in capitals": "A KEY FOR TESTS THAT IS LONG ENOUGH TO BE TAKEN",
}


@pytest.mark.parametrize("value", WEAK.values(), ids=WEAK.keys())
@pytest.mark.parametrize("name", [*SECRET_NAMES, *FALLBACK_NAMES])
def test_production_refuses_a_weak_secret(name: str, value: str, tmp_path: Path) -> None:
    [fault] = faults_of(production(**{name: value}), tmp_path)
    assert fault == f"{name} is weak: it needs at least 32 random bytes"


def test_spaces_are_no_secret(tmp_path: Path) -> None:
    [fault] = faults_of(production(SECRET_KEY=" " * 40), tmp_path)
    assert fault.startswith("SECRET_KEY is not set")


def test_a_secret_of_32_random_bytes_is_strong_in_any_writing(tmp_path: Path) -> None:
    raw = secrets.token_bytes(32)
    for value in (raw.hex(), secrets.token_urlsafe(32), STRONG[:32], "ä" * 3 + STRONG[:26]):
        assert faults_of(production(SECRET_KEY=value), tmp_path) == []


def test_no_secret_may_be_used_twice(tmp_path: Path) -> None:
    settings = {"ACCESS_TOKEN_SECRET": STRONG, "REFRESH_TOKEN_SECRET": STRONG[::-1]}
    settings["REFRESH_TOKEN_SECRET_FALLBACKS"] = STRONG[::-1]
    for environ in (production(**settings), development(**settings)):
        faults = faults_of(environ, tmp_path)
        assert faults == [
            "ACCESS_TOKEN_SECRET repeats SECRET_KEY: each secret must be its own",
            "REFRESH_TOKEN_SECRET_FALLBACKS repeats REFRESH_TOKEN_SECRET: each secret must be its own",
        ]


def printed_secrets() -> set[str]:
    """Return every value that a file of this project gives to a secret."""
    printed = set()
    for path in [*ROOT.glob("*"), *ROOT.glob("docs/**/*"), *ROOT.glob(".ci/*"), *ROOT.glob("bench/**/*")]:
        if path.is_file() and path.suffix not in {".pyc", ".db"} and path.stat().st_size < 10**6:
            text = path.read_text(errors="replace")
            printed |= set(re.findall(rf"\b(?:{'|'.join(SECRET_NAMES)})=[\"']?([\w+/=-]{{4,}})", text))
    for path in [*ROOT.glob("tests/*.py"), *ROOT.glob("bench/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                pairs = list(zip(node.keys, node.values, strict=True))
            elif isinstance(node, ast.keyword) and node.arg:
                pairs = [(ast.Constant(node.arg), node.value)]
            else:
                continue
            printed |= {
                value.value
                for name, value in pairs
                if isinstance(name, ast.Constant) and name.value in SECRET_NAMES
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return printed | {PASSWORD} | config.PRINTED_SECRETS


def test_production_refuses_every_secret_that_is_printed_in_this_project(tmp_path: Path) -> None:
    printed = printed_secrets()
    assert "a key for tests that is long enough to be taken" in printed
    accepted = {value for value in printed if value and not faults_of(production(SECRET_KEY=value), tmp_path)}
    assert accepted == set()


# Files.


def file_value(name: str) -> str:
    """Return a good value for a setting that can come from a file."""
    return ADDRESSES.get(name, STRONG[::-1])


@pytest.mark.parametrize("name", sorted(FILE_SETTINGS))
def test_a_secret_can_come_from_a_file(name: str, tmp_path: Path) -> None:
    plain = name.removesuffix("_FILE")
    path = tmp_path / "secret"
    path.write_text(f"\n {file_value(plain)} \n")
    environ = {key: value for key, value in production().items() if key != plain}
    from_file = load({**environ, name: str(path)}, tmp_path)
    assert from_file == load({**environ, plain: file_value(plain)}, tmp_path)


@pytest.mark.parametrize("name", sorted(FILE_SETTINGS))
def test_a_secret_given_twice_is_a_fault(name: str, tmp_path: Path) -> None:
    plain = name.removesuffix("_FILE")
    path = tmp_path / "secret"
    path.write_text(file_value(plain))
    environ = production(**{plain: file_value(plain), name: str(path)})
    assert faults_of(environ, tmp_path) == [f"{plain} and {name} are both set"]


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"\xff" * 40)
    for path in (tmp_path / "none", tmp_path, latin, latin / "below"):
        [fault] = faults_of(production(ACCESS_TOKEN_SECRET_FILE=str(path)), tmp_path)
        assert fault.startswith("ACCESS_TOKEN_SECRET_FILE cannot be read: ")


def test_an_empty_file_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("\n")
    environ = {"TOKENAPP_ISSUER": "https://a.example", "SECRET_KEY_FILE": str(path)}
    [fault] = faults_of(environ, tmp_path)
    assert fault.startswith("SECRET_KEY is not set")


def test_a_file_without_a_name_is_none(tmp_path: Path) -> None:
    assert faults_of(production(**dict.fromkeys(FILE_SETTINGS, "")), tmp_path) == []


def test_a_weak_secret_in_a_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(LEAK)
    environ = {"TOKENAPP_ISSUER": "https://a.example", "SECRET_KEY_FILE": str(path)}
    assert faults_of(environ, tmp_path) == ["SECRET_KEY is weak: it needs at least 32 random bytes"]


# What only production asks for.

LAX: Final = {
    "TOKENAPP_ISSUER": "http://auth.example.com",
    "TOKENAPP_ALLOWED_ORIGINS": "https://a.example,http://b.example",
    "TOKENAPP_PASSWORD_MEMORY": "19455",
    "TOKENAPP_PASSWORD_PASSES": "1",
}


@pytest.mark.parametrize("name", LAX)
def test_production_refuses_what_is_good_enough_for_development(name: str, tmp_path: Path) -> None:
    [fault] = faults_of(production(**{name: LAX[name]}), tmp_path)
    assert fault.startswith(name)
    assert fault.endswith("in production")
    assert faults_of(development(**{name: LAX[name]}), tmp_path) == []


def test_a_default_database_in_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "instance", Path("/proc/self/instance"), Path("/proc/self")):
        [fault] = faults_of(production(), place)
        assert fault.startswith("DATABASE_URL is not set")
        assert faults_of(production(DATABASE_URL="postgresql://u@h/name"), place) == []


# The secret of development.


def test_development_makes_its_secret_once_for_its_owner_alone(tmp_path: Path) -> None:
    instance = tmp_path / "new" / "instance"
    before = os.umask(0)
    try:
        first = load({"TOKENAPP_ENV": "development"}, instance)
    finally:
        os.umask(before)
    second = load({"TOKENAPP_ENV": "development"}, instance)
    assert first.secret_key == second.secret_key
    assert faults_of(production(SECRET_KEY=first.secret_key), tmp_path) == []
    assert (instance / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in instance.iterdir()] == ["secret_key"]


def test_production_makes_no_secret(tmp_path: Path) -> None:
    faults_of({}, tmp_path)
    faults_of({"TOKENAPP_ENV": "dev"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_secret_file_of_development_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("")
    [fault] = faults_of({"TOKENAPP_ENV": "development"}, tmp_path)
    assert fault.startswith("SECRET_KEY is not set")


def test_a_secret_that_cannot_be_kept_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    faults = faults_of(
        {"TOKENAPP_ENV": "development", "DATABASE_URL": "sqlite:////x.db"}, tmp_path / "file" / "instance"
    )
    assert [fault.split()[0] for fault in faults] == ["SECRET_KEY"]


def test_processes_that_start_at_once_make_one_secret(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from tokenapp.config import load; print('ready', flush=True); sys.stdin.readline(); "
    )
    program += "places = [pathlib.Path(sys.argv[1]) / str(number) for number in range(100)]; "
    program += "print([load({'TOKENAPP_ENV': 'development'}, place).secret_key for place in places])"
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    made = {process.communicate(timeout=20)[0] for process in processes}
    assert len(made) == 1
    assert {path.name for path in tmp_path.glob("*/*")} == {"secret_key"}


# Starting up.

SETTING_NAMES: Final = {setting.name for setting in SETTINGS}


def start(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these settings of ours and no others."""
    clean = {name: value for name, value in environment().items() if name not in SETTING_NAMES}
    command, env = [sys.executable, *arguments], {**clean, **settings}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


def assert_lists_all(told: str) -> None:
    """Show that `told` names all that is wrong with `MANY_FAULTS`, and no secret."""
    assert all(f"  - {name} " in told for name in MANY_FAULTS)
    assert LEAK not in told


def test_wsgi_fails_with_the_list_of_faults_and_nothing_else() -> None:
    done = start("-c", "import wsgi", **MANY_FAULTS)
    assert done.returncode == 1
    assert_lists_all(done.stderr)
    assert done.stderr.startswith("tokenapp cannot start:\n  - ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [["gunicorn"], ["flask", "routes"]], ids=["gunicorn", "flask"])
def test_no_program_starts_with_faults(arguments: list[str]) -> None:
    # gunicorn reads WEB_CONCURRENCY before us, and has words of its own for what is no number.
    done = start("-m", *arguments, **{**MANY_FAULTS, "WEB_CONCURRENCY": "0"})
    assert done.returncode != 0
    assert_lists_all(done.stdout + done.stderr)
