"""Signing keys as tokens use them: which key signs, and what is cached of keys."""

import dataclasses
import sys
import threading
from datetime import UTC, datetime
from functools import partial

import joserfc.jwt
import jwt
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_jwt_extended import create_access_token, create_refresh_token

from tests.conftest import Databases
from tests.support.app import SETTINGS, make_app
from tests.support.concurrency import at_once, wait_until
from tests.support.forge import Issued, b64, issue, kid_of, unb64
from tests.tokens.conftest import SECRETS, joserfc_key
from tokenapp import db, keys
from tokenapp.keys import keyring
from tokenapp.models import SigningKey
from tokenapp.tokens import verification


def test_each_use_has_its_own_key_algorithm_and_typ(stored: Issued) -> None:
    assert stored.header("access") == {"alg": "ES256", "kid": stored.keys["access"].kid, "typ": "at+jwt"}
    assert stored.header("refresh") == {"alg": "HS256", "kid": stored.keys["refresh"].kid, "typ": "refresh+jwt"}
    assert stored.keys["access"].kid != stored.keys["refresh"].kid


def test_functions_of_the_library_sign_with_the_key_of_the_use(stored: Issued) -> None:
    with stored.app.app_context():
        tokens = {"access": create_access_token("a-user"), "refresh": create_refresh_token("a-user")}
    for use in keys.USES:
        key = stored.keys[use]
        claims = joserfc.jwt.decode(tokens[use], joserfc_key(key), [key.alg]).claims
        assert (claims["sub"], claims["type"]) == ("a-user", use)


def test_token_minted_during_a_rotation_is_signed_by_the_key_that_it_names(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    issue(app)
    with app.app_context():
        now = datetime.now(UTC)
        before, cache = keys.current(now), db.per_process(keyring._Cache)
        db.execute_now(sa.update(SigningKey).values(retired_at=now))
        after = keys.load(now)
        assert before.signing["access"].kid != after.signing["access"].kid
        stop = threading.Event()

        def swap_keyrings() -> None:
            while not stop.wait(0.00002):
                cache.ring = after if cache.ring is before else before

        swapping = threading.Thread(target=swap_keyrings)
        swapping.start()
        minted: list[str] = []
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            wait_until(lambda: _mint_some(minted) >= 300 and len({kid_of(token) for token in minted}) > 1)
        finally:
            sys.setswitchinterval(interval)
            stop.set()
            swapping.join()
        db.db.engine.dispose()
    for token in minted:
        key = (before if kid_of(token) in before.by_kid else after).by_kid[kid_of(token)]
        joserfc.jwt.decode(token, joserfc_key(key), [key.alg])


def test_workers_that_create_the_first_key_at_once_agree_on_one(database_url: str) -> None:
    workers = [make_app(database_url) for _ in range(3)]
    now = datetime.now(UTC)

    def load(worker: Flask) -> set[str]:
        with worker.app_context():
            try:
                keys.lifecycle.create_first("access", now)
                return set(keys.load(now).by_kid)
            finally:
                db.db.engine.dispose()

    kids = at_once(*(partial(load, worker) for worker in workers))
    assert len(kids[0]) == 2
    assert kids == kids[:1] * len(kids)


# Changes of secrets.


def restarted(issued: Issued, **settings: str) -> Issued:
    """Restart the service on the database of `issued`, with other settings."""
    url = str(issued.app.config["SQLALCHEMY_DATABASE_URI"])
    return dataclasses.replace(issued, app=make_app(url, **settings))


def test_former_secret_verifies_as_long_as_it_is_a_fallback(databases: Databases) -> None:
    old = issue(make_app(databases("sqlite"), **SECRETS))
    new = {"ACCESS_TOKEN_SECRET": "new access " * 4, "REFRESH_TOKEN_SECRET": "new refresh " * 4}
    fallbacks = {f"{name}_FALLBACKS": f"{name} and another,{value}" for name, value in SECRETS.items()}
    assert restarted(old, **new, **fallbacks).protected(old.good["access"]).status == 200
    assert restarted(old, **new, **fallbacks).refresh(old.good["refresh"]).status == 200
    restarted(old, **new).assert_rejected(old.good["access"])
    restarted(old, **new).assert_rejected(old.good["refresh"])


def test_tokens_of_stored_keys_stay_valid_when_secrets_are_set(databases: Databases) -> None:
    old = issue(make_app(databases("sqlite")))
    assert restarted(old, **SECRETS).protected(old.good["access"]).status == 200
    assert restarted(old, **SECRETS).refresh(old.good["refresh"]).status == 200


def test_keys_encrypted_under_another_secret_key_give_503(databases: Databases) -> None:
    old = issue(make_app(databases("sqlite")))
    before = old.row()
    changed = restarted(old, SECRET_KEY=SETTINGS["SECRET_KEY"][::-1])
    for response in (changed.protected(old.good["access"]), changed.refresh(old.good["refresh"])):
        assert response.problem[:2] == (503, "service_unavailable")
        assert response.header("Retry-After") is not None
        assert response.cookie is None
    assert changed.logout(cookie=old.good["refresh"]).status == 503
    assert old.row() == before


# Caches of the keyring.


def test_cache_of_verified_tokens_is_bounded(databases: Databases) -> None:
    issued = issue(make_app(databases("sqlite")))
    with issued.app.app_context():
        cache = keys.current(datetime.now(UTC)).verified
        cache.update((str(number), {}) for number in range(verification._VERIFIED_MAX))
        claims = verification.verify(issued.with_claims("access", jti="one-more"), now=datetime.now(UTC))
    assert list(cache.values()) == [claims]


def test_headers_without_a_valid_signature_are_not_cached(databases: Databases) -> None:
    issued = issue(make_app(databases("sqlite")))
    with issued.app.app_context():
        ring = keys.current(datetime.now(UTC))
        before = dict(ring.named)
        header, payload, signature = issued.good["access"].split(".")
        text = unb64(header).decode()
        for spaces in range(1, 100):
            respaced = b64(text.replace(",", "," + " " * spaces, 1).encode()).decode()
            with pytest.raises(jwt.InvalidTokenError):
                verification.verify(f"{respaced}.{payload}.{signature}", now=datetime.now(UTC))
        assert ring.named == before


def _mint_some(minted: list[str]) -> int:
    minted += [create_access_token("a-user") for _ in range(100)]
    return len(minted)
