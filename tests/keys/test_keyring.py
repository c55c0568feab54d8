"""The keyring of each process: renewed in time, and decrypted with `SECRET_KEY`."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from time import sleep

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.keys.conftest import SQLITE, Restart, load, now, published, retire, rotate, signer, statuses, stored_keys
from tests.support.app import create_user
from tests.support.client import Client, sign_in
from tests.support.forge import header_of, kid_of
from tokenapp import db, errors, keys
from tokenapp.keys import keyring, lifecycle

OTHER_KEY = secrets.token_urlsafe(48)
UNKNOWN_KID = "an-unknown-key-id"


def test_process_learns_of_a_replaced_key_from_its_first_token(restart: Restart) -> None:
    here, there = (restart(TOKENAPP_REVOCATION_DELAY="60") for _ in range(2))
    create_user(here)
    assert statuses(there, sign_in(here)) == (200, 200)
    for use in keys.USES:
        retire(here, signer(here, use), now())
    load(here, now())
    sleep(0.15)  # unknown kids renew the keyring at most ten times a second
    assert statuses(there, sign_in(here)) == (200, 200)


@SQLITE
def test_request_with_an_outdated_keyring_waits_for_its_renewal(app: Flask) -> None:
    old = signer(app)
    new = rotate(app, "access", now())
    later = now() + timedelta(minutes=15)
    with app.app_context():
        renewing = db.per_process(keyring._Cache).renewing

    def current_signer() -> str:
        with app.app_context():
            return keys.current(later).signing["access"].kid

    with ThreadPoolExecutor(1) as pool:
        with renewing:
            waiting = pool.submit(current_signer)
            sleep(0.1)
            assert not waiting.done(), "got the old keyring while another request renewed it"
        assert waiting.result(60) == new.kid != old


@SQLITE
def test_keyring_stays_in_use_while_the_database_is_unavailable(app: Flask) -> None:
    kid = signer(app)
    with app.app_context():
        path = Path(str(db.db.engine.url.database))
        path.rename(path.with_suffix(".away"))
        later = now() + timedelta(seconds=5)
        assert keys.current(later).signing["access"].kid == kid
        assert keys.find(kid, later) is not None
        with pytest.raises(sa.exc.OperationalError):
            keys.find(UNKNOWN_KID, later)
        path.with_suffix(".away").rename(path)
        assert keys.find(UNKNOWN_KID, later + timedelta(seconds=1)) is None


# Changes of SECRET_KEY.


def test_new_secret_key_encrypts_the_keys_again_so_that_its_fallback_can_be_removed(restart: Restart) -> None:
    old = restart()
    create_user(old)
    client = sign_in(old)
    rotate(old, "access", now())
    encrypted = {row.encrypted for use in keys.USES for row in stored_keys(old, use)}
    changed = restart(SECRET_KEY=OTHER_KEY, SECRET_KEY_FALLBACKS=old.config["TOKENAPP"].secret_key)
    assert statuses(changed, client) == (200, 200)
    assert not encrypted & {row.encrypted for use in keys.USES for row in stored_keys(old, use)}
    assert statuses(old, client) == (200, 200), "a process with the former key lost the keys that it had decrypted"
    assert statuses(restart(SECRET_KEY=OTHER_KEY), client) == (200, 200)


@SQLITE
def test_missing_fallback_gives_503_and_signs_no_user_out(restart: Restart) -> None:
    old = restart()
    create_user(old)
    client = sign_in(old)
    wrong = restart(SECRET_KEY=OTHER_KEY)
    assert statuses(wrong, client) == (503, 503)
    assert Client(wrong).send("GET", "/readyz").status == 503
    assert statuses(old, client) == (200, 200)


@SQLITE
def test_pending_key_that_cannot_be_decrypted_is_harmless_until_it_is_active(restart: Restart) -> None:
    served = restart()
    create_user(served)
    client = sign_in(served)
    other = restart(SECRET_KEY=OTHER_KEY, SECRET_KEY_FALLBACKS=served.config["TOKENAPP"].secret_key)
    pending = rotate(other, "access", now())
    with served.app_context():
        assert pending.kid not in keys.load(now()).by_kid
        assert list(lifecycle.unreadable(now())) == [pending.kid]
        with pytest.raises(errors.ServiceUnavailable):
            keys.load(pending.activates_at)
    assert statuses(served, client) == (200, 200)


# Secrets from the environment.

SECRETS = {
    "ACCESS_TOKEN_SECRET": "secret number 0 which is of good length",
    "REFRESH_TOKEN_SECRET": "secret number 1 which is of good length",
}
AS_FALLBACKS = {f"{name}_FALLBACKS": value for name, value in SECRETS.items()}


def test_secrets_from_the_environment_rotate_through_their_fallbacks(restart: Restart) -> None:
    app = restart(**SECRETS)
    create_user(app)
    before = sign_in(app)
    assert algorithms(before) == {"HS256"}
    new = {name: value.upper() for name, value in SECRETS.items()}
    changed = restart(**new, **AS_FALLBACKS)
    assert statuses(changed, before) == (200, 200)
    after = sign_in(changed)
    assert not kids(before) & kids(after)
    final = restart(**new)
    assert statuses(final, after) == (200, 200)
    assert statuses(final, before) == (403, 403)
    assert published(changed) == []


def test_change_from_stored_keys_to_secrets_and_back_invalidates_no_token(restart: Restart) -> None:
    stored = restart()
    create_user(stored)
    before = sign_in(stored)
    with_secrets = restart(**SECRETS)
    assert statuses(with_secrets, before) == (200, 200)
    between = sign_in(with_secrets)
    back = restart(**AS_FALLBACKS)
    for client in (before, between, sign_in(back)):
        assert statuses(back, client) == (200, 200)
    assert kid_of(sign_in(back).token or "") == kid_of(before.token or "")


@SQLITE
def test_retirement_of_a_stored_refresh_key_revokes_no_session_that_a_secret_signs(restart: Restart) -> None:
    stored = restart()
    kid = signer(stored, "refresh", now() - timedelta(hours=1))
    app = restart(REFRESH_TOKEN_SECRET=SECRETS["REFRESH_TOKEN_SECRET"])
    create_user(app)
    client = sign_in(app)
    assert retire(app, kid, now()) == 0
    assert statuses(app, client) == (200, 200)


def tokens(client: Client) -> list[str]:
    """Return both tokens of a client."""
    return [client.token or "", client.cookie or ""]


def kids(client: Client) -> set[str]:
    """Return the kids of a client's tokens."""
    return {kid_of(token) for token in tokens(client)}


def algorithms(client: Client) -> set[str]:
    """Return the algorithms of a client's tokens."""
    return {header_of(token)["alg"] for token in tokens(client)}
