"""Password hashes that ``flask users import`` accepts."""

from contextvars import Context
from functools import partial
from pathlib import Path

import bcrypt
import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher, Type
from argon2.low_level import hash_secret
from flask import Flask
from werkzeug.security import generate_password_hash

from tests.support.app import PASSWORD
from tests.support.commandline import (
    NEW_PASSWORD,
    can_sign_in,
    run,
)
from tests.support.server import run_flask
from tests.support.user_files import csv_file, jsonl_file, usernames
from tokenapp import db, errors, passwords
from tokenapp.models import User

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
cheap = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
HASHES = {
    "argon2id": cheap().hash(PASSWORD),
    "argon2i": cheap(type=Type.I).hash(PASSWORD),
    "argon2d": cheap(type=Type.D).hash(PASSWORD),
    "argon2id of version 16": hash_secret(PASSWORD.encode(), b"salty salt", 1, 8, 1, 32, Type.ID, 16).decode(),
    "argon2 at its default cost": PasswordHasher().hash(PASSWORD),
    "scrypt": generate_password_hash(PASSWORD, "scrypt:1024:8:1"),
    "scrypt at its default cost": generate_password_hash(PASSWORD),
    "pbkdf2": generate_password_hash(PASSWORD, "pbkdf2:sha256:1000"),
    "pbkdf2 with sha512": generate_password_hash(PASSWORD, "pbkdf2:sha512:1000"),
    "bcrypt": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
    "bcrypt of PHP": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$"),
    "bcrypt of Java": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4, b"2a")).decode(),
    "pbkdf2 with sha1": generate_password_hash(PASSWORD, "pbkdf2:sha1:1000", salt_length=8),
}
BASE64 = "c29tZSBzYWx0IGhlcmU"
BCRYPT = "abcdefghijklmnopqrstuuJ1g6hS8Yp5oZ1gV1bR1qYy7oQ0pS5bK"
LABELS = {
    "Django's argon2": ("argon2", "argon2id"),
    "Django's bcrypt": ("bcrypt$", "bcrypt"),
    "Nextcloud's argon2id": ("3|", "argon2id"),
    "Nextcloud's argon2i": ("2|", "argon2i"),
    "Nextcloud's bcrypt": ("1|", "bcrypt of PHP"),
    "LDAP's argon2": ("{ARGON2}", "argon2id"),
    "LDAP's crypt": ("{CRYPT}", "bcrypt of PHP"),
    "Spring Security's bcrypt": ("{bcrypt}", "bcrypt of Java"),
    "Dovecot's bcrypt": ("{BLF-CRYPT}", "bcrypt of PHP"),
}
INVALID_HASHES = [
    "",
    "plain",
    "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
    *(f"$2b${cost}${BCRYPT}" for cost in ("03", "15", "31", "4", "32", "1٢")),
    *(f"$2{version}$12${BCRYPT}" for version in ("", "x", "c", "B")),
    *(f"$2b$12${changed}" for changed in (BCRYPT[:-1], BCRYPT + "K", BCRYPT[:-1] + "L", BCRYPT.replace("uu", "ut"))),
    f"bcrypt_sha256$$2b$12${BCRYPT}",
    f"4|$2y$12${BCRYPT}",
    "scrypt:32768:8:1$salt",
    "scrypt:32768:8:1$salt$" + "0" * 127,
    "scrypt:32768:8:1$salt$" + "G" * 128,
    "scrypt:32768:8:1$$" + "0" * 128,
    "scrypt:30000:8:1$salt$" + "0" * 128,
    "scrypt:1:8:1$salt$" + "0" * 128,
    "scrypt:32768:0:1$salt$" + "0" * 128,
    "scrypt:4194304:8:1$salt$" + "0" * 128,
    "scrypt:32768:8$salt$" + "0" * 128,
    "scrypt:32768:8:1$s\xe4lt$" + "0" * 128,
    "pbkdf2:sha256:1000$salt$" + "0" * 63,
    "pbkdf2:sha256:1000$salt$" + "A" * 64,
    "pbkdf2:sha256:1000$salt$" + "\u0660" * 64,
    "pbkdf2:sha256:0$salt$" + "0" * 64,
    "pbkdf2:sha256:99999999$salt$" + "0" * 64,
    "pbkdf2:md5:1000$salt$" + "0" * 32,
    "pbkdf2:nonsense:1000$salt$" + "0" * 64,
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}$",
    f"$argon2id$v=19$m=8,t=0,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=0${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=2${BASE64}${BASE64}",
    f"$argon2id$v=19$m=2000000,t=1,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=2048,t=1000,p=1${BASE64}${BASE64}",
    f"$argon2id$v=20$m=8,t=1,p=1${BASE64}${BASE64}",
    f"$argon2x$v=19$m=8,t=1,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}=",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64[:-1]}V",  # a second spelling of the same bytes
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}AA",
    f" $argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}\n",
]


def stored_hash(app: Flask, username: str) -> str:
    """Return the stored hash of a user."""

    def read() -> str:
        with app.app_context(), db.reading() as session:
            return session.scalars(sa.select(User.password_hash).where(User.username == username)).one()

    return Context().run(read)


def is_accepted(text: str) -> bool:
    """Return whether an import accepts this hash."""
    try:
        passwords.kind_of(text)
    except errors.PasswordRejected:
        return False
    return True


@pytest.mark.parametrize("kind", HASHES)
def test_imported_hash_is_verified_and_upgraded_at_sign_in(app: Flask, tmp_path: Path, kind: str) -> None:
    file = csv_file(tmp_path, f'alice,"{HASHES[kind]}"', header="username,password_hash")
    assert run(app, "users", "import", str(file)).stdout == "Imported 1 user; found 0 invalid lines.\n"
    assert stored_hash(app, "alice") == HASHES[kind]
    assert not can_sign_in(app, password=NEW_PASSWORD)
    assert can_sign_in(app)
    assert stored_hash(app, "alice").startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert can_sign_in(app)


@pytest.mark.parametrize("program", LABELS)
@SQLITE
def test_label_of_another_program_is_removed(app: Flask, tmp_path: Path, program: str) -> None:
    label, kind = LABELS[program]
    people = {"username": "alice", "password_hash": label + HASHES[kind]}
    assert run(app, "users", "import", str(jsonl_file(tmp_path, people))).stdout.startswith("Imported 1 user")
    assert stored_hash(app, "alice") == HASHES[kind]
    assert can_sign_in(app)


@pytest.mark.parametrize("printed", ["{0}   ", "\n{0}\r", "\\x{1}", "0x{1}", "b'{0}'", "\\x{1}  "])
@pytest.mark.parametrize("kind", ["bcrypt", "argon2id", "pbkdf2"])
def test_hash_is_taken_as_databases_and_python_print_it(kind: str, printed: str) -> None:
    assert passwords.unlabelled(printed.format(HASHES[kind], HASHES[kind].encode().hex())) == HASHES[kind]


@SQLITE
def test_bcrypt_hash_of_a_long_password_covers_72_bytes(app: Flask, tmp_path: Path) -> None:
    password = "é" * 40  # the 72nd byte is within the 36th of 40 characters
    stored = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    run(app, "users", "import", str(jsonl_file(tmp_path, {"username": "alice", "password_hash": stored})))
    assert not can_sign_in(app, password="é" * 35)
    assert can_sign_in(app, password=password)
    assert stored_hash(app, "alice").startswith("$argon2id$")
    assert not can_sign_in(app, password="é" * 39)
    assert can_sign_in(app, password=password)


@SQLITE
def test_password_with_a_nul_character_does_not_match_a_bcrypt_hash(app: Flask, tmp_path: Path) -> None:
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    run(app, "users", "import", str(jsonl_file(tmp_path, {"username": "alice", "password_hash": stored})))
    with app.app_context():
        assert not passwords.verify(stored, "secret\0more", decoy="bcrypt:4")


def test_ten_thousand_hashes_are_imported_in_one_run(app: Flask, database_url: str, tmp_path: Path) -> None:
    hashes = [HASHES["argon2 at its default cost"], HASHES["scrypt at its default cost"], HASHES["pbkdf2"]]
    people = [{"username": f"user{number:05}", "password_hash": hashes[number % 3]} for number in range(10_000)]
    ended = run_flask(database_url, "users", "import", str(jsonl_file(tmp_path, *people)))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Imported 10000 users; found 0 invalid lines.\n", "")
    assert len(usernames(app)) == 10_000


@pytest.mark.parametrize("text", INVALID_HASHES)
def test_hash_that_cannot_be_verified_is_not_accepted(text: str) -> None:
    assert not is_accepted(text)


@pytest.mark.parametrize("kind", [kind for kind in HASHES if "default" not in kind])
@SQLITE
def test_every_accepted_hash_can_be_verified(app: Flask, kind: str) -> None:
    """A changed hash is rejected, or verified as wrong; it never causes an error."""
    good = HASHES[kind]
    changed = {good[:place] + char + good[place + 1 :] for place in range(len(good)) for char in "1$:=Z"} - {good}
    with app.app_context():
        check = partial(passwords.verify, password=PASSWORD, decoy=passwords.kind_of(good))
        assert check(good)
        assert not any(check(text) for text in changed if is_accepted(text))
