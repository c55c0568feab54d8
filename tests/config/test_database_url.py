"""DATABASE_URL: each part takes effect or is an error, which shows no part of it."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.settings import problems_of, production
from tokenapp.config.database_url import read

LEAK: Final = "hunter2"
TO_ENCODE: Final = [
    f"postgresql://u:x@{LEAK}@h/name",
    f"postgresql://u:{LEAK}/x@h/name",
    f"postgresql://u:x/{LEAK}@h/name",
    f"postgresql://u:12/{LEAK}?y@h/name",
    f"postgresql://u:12/x?{LEAK}=y@h/name",
    f"postgresql://u:x?{LEAK}@h/name",
    f"postgresql://u:x#{LEAK}@h/name",
    f"postgresql://u:x@{LEAK}/y@h/name",
    f"postgresql://u:x@{LEAK}?y@h/name",
    f"postgresql://u:100%{LEAK}@h/name",
    f"postgresql://u:x@{LEAK}@h1,h2/name",
]


@pytest.mark.parametrize("url", TO_ENCODE)
def test_unencoded_character_in_a_password_is_an_error_that_shows_no_part_of_it(url: str, tmp_path: Path) -> None:
    [problem] = problems_of(production(DATABASE_URL=url), tmp_path)
    assert problem.startswith("DATABASE_URL ")
    assert "percent-encode" in problem
    assert LEAK not in problem


@pytest.mark.parametrize(
    ("password", "encoded"), [("p@/?#%:w", "p%40%2F%3F%23%25%3Aw"), ("a:b", "a:b"), ("pä+ß", "pä+ß"), ("", "")]
)
def test_password_is_decoded(password: str, encoded: str) -> None:
    assert (read(f"postgresql://u:{encoded}@h/name").password or "") == password


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("schema=public", "does not know: schema (for a schema, write options=-csearch_path%3DNAME)"),
        ("pgbouncer=true", "does not know: pgbouncer"),
        ("ssl=true", "does not know: ssl"),
        ("autocommit=false", "does not know: autocommit"),
        ("sslmode=on", "a value for sslmode"),
        ("target_session_attrs=primary-only", "a value for target_session_attrs"),
        ("sslmode=prefer&sslnegotiation=direct", "a value for sslnegotiation"),
        ("connect_timeout=soon", "a value for connect_timeout that is not a whole number"),
        ("keepalives_idle=1m", "a value for keepalives_idle that is not a whole number"),
        ("client_encoding=latin1", "a value for client_encoding that is not utf8"),
        ("service=unknown", "a value for service"),
        ("sslmode=require&sslmode=prefer", "a parameter twice"),
        ("sslmode", "a parameter without a value"),
    ],
)
def test_parameter_that_libpq_does_not_accept_is_an_error(query: str, sentence: str, tmp_path: Path) -> None:
    [problem] = problems_of(production(DATABASE_URL=f"postgresql://u@h/name?{query}"), tmp_path)
    assert sentence in problem


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=verify-full&sslrootcert=/etc/ca.pem&sslnegotiation=direct",
        "application_name=a@b&target_session_attrs=read-write&load_balance_hosts=random",
        "connect_timeout=10&keepalives=1&keepalives_idle=30&tcp_user_timeout=0",
        "options=-csearch_path%3Dauth%20-c%20work_mem%3D8MB",
        "gssencmode=require&channel_binding=require&require_auth=scram-sha-256",
    ],
)
def test_parameters_of_libpq_are_kept(query: str) -> None:
    assert len(read(f"postgresql://u@h:5432/name?{query}").query) == query.count("&") + 1


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/name", "/var/run/postgresql", None),
        ("postgresql://u@%2Frun:5433/name", "/run", "5433"),
        ("postgresql://:5433/name?host=/run", "/run", "5433"),
        ("postgresql:///name?host=h:5433", "h", "5433"),
        ("postgresql:///name?host=::1", "::1", None),
        ("postgresql://a,[::1]:5433/name", "a,::1", ",5433"),
        ("postgresql://u@/name?host=a:1&host=b:2", "a,b", "1,2"),
    ],
)
def test_hosts_that_are_no_names_are_parameters(url: str, host: str, port: str | None) -> None:
    query = read(url).query
    assert (query.get("host"), query.get("port")) == (host, port)


def test_address_in_brackets_is_a_host() -> None:
    url = read("postgres://u@[2001:db8::7]:5433/name")
    assert (url.host, url.port) == ("2001:db8::7", 5433)


@pytest.mark.parametrize(
    "url", ["postgresql://?service=auth", "postgresql:///?service=auth", "postgresql:///?user=u&service=auth"]
)
def test_service_can_name_the_database(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "services").write_text("[auth]\nhost=h\nport=5433\ndbname=name\nsslmode=require\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert (read(url).database, read(url).query["service"]) == (None, "auth")


def test_user_and_password_can_be_parameters_and_the_password_is_not_shown(tmp_path: Path) -> None:
    url = read(f"postgresql://h/?dbname=name&user=u&password={LEAK}")
    assert (url.username, url.password, url.database) == ("u", LEAK, "name")
    assert LEAK not in str(url)
    assert len(problems_of(production(DATABASE_URL="postgresql://u@h/name?user=v"), tmp_path)) == 1


@pytest.mark.parametrize("url", ["sqlite:////var/x.db\r", " sqlite:////var/x.db\n", "\tsqlite:////var/x.db "])
def test_blanks_and_line_ends_around_the_url_are_ignored(url: str) -> None:
    assert read(url).database == "/var/x.db"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:////var/x\r\ny.db", "invisible character"),
        ("sqlite:////tmp", "a folder"),
        ("sqlite:///data/", "a folder"),
        ("sqlite:////var/my%20file.db", "percent-encoded"),
        ("sqlite:////var/x.db?timeout=10", "parameters"),
        ("sqlite:////var/x.db?mode=ro", "parameters"),
        ("sqlite://host/x.db", "must look like"),
        ("sqlite:///file::memory:?uri=true", "must look like"),
        ("sqlite:///file:x.db?mode=memory&uri=true", "parameters"),
        ("sqlite:///file:x.db?mode=RO&uri=true", "parameters"),
        ("postgresql+asyncpg://u@h/name", "postgresql://user@host/name"),
    ],
)
def test_url_that_would_mean_something_else_is_an_error(url: str, sentence: str, tmp_path: Path) -> None:
    [problem] = problems_of(production(DATABASE_URL=url), tmp_path)
    assert sentence in problem
