"""The keyring: what each key is at each moment, which are taken, how they are kept, and what drops and changes do."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from flask import Flask
from joserfc.jwk import KeySet

from tests.support.app import PASSWORD, create_user, make_app
from tests.support.client import claims_of
from tests.support.concurrency import at_once
from tests.support.forge import unb64
from tokenapp import config, db, errors, keys
from tokenapp.keys import keyring, lifecycle
from tokenapp.models import Session, SigningKey

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
USES = pytest.mark.parametrize("use", keys.USES)
LEAD = timedelta(seconds=302)  # the JWK set's life and two revocation delays
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
OTHER_KEY = secrets.token_urlsafe(48)
Restart = Callable[..., Flask]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def restart(database_url: str) -> Iterator[Restart]:
    """Give a function that makes the application anew on the same database, with other settings."""
    with ExitStack() as stack:

        def make(**settings: str) -> Flask:
            app = make_app(database_url, **settings)
            stack.callback(dispose, app)
            return app

        yield make


def dispose(app: Flask) -> None:
    with app.app_context():
        db.db.engine.dispose()


def states(app: Flask, at: datetime, use: keys.Use = "access") -> list[str]:
    """Return what the keys of that use are at a moment, in the order in which they were made."""
    with app.app_context():
        return [info.state for info in lifecycle.list_keys(at) if info.use == use]


def rotate(app: Flask, use: keys.Use, at: datetime, **more: Any) -> lifecycle.KeyInfo:
    with app.app_context():
        return lifecycle.rotate(use, at, **more)


def retire(app: Flask, kid: str, at: datetime) -> int:
    with app.app_context():
        return lifecycle.retire(kid, at, at_once=True)


def first(app: Flask, use: keys.Use = "access", at: datetime | None = None) -> str:
    """Make the keys as the first request does; return the name of that use's."""
    with app.app_context():
        return keys.load(at or now()).signing[use].kid


def signer(app: Flask, use: keys.Use, at: datetime) -> str:
    with app.app_context():
        return keys.load(at).signing[use].kid


def login(app: Flask, username: str = "alice") -> tuple[str, str]:
    """Sign in; return the access and the refresh token."""
    reply = app.test_client().post("/api/login", json={"username": username, "password": PASSWORD})
    assert reply.status_code == 200, reply.text
    return reply.get_json()["accessToken"], reply.headers["Set-Cookie"].split(";")[0].partition("=")[2]


def statuses(app: Flask, tokens: tuple[str, str]) -> tuple[int, int]:
    """Present an access and a refresh token; return the two answers' statuses."""
    client = app.test_client(use_cookies=False)
    bearer = client.get("/api/protected", headers={"Authorization": f"Bearer {tokens[0]}"})
    return bearer.status_code, client.post("/api/token", headers={"Cookie": f"refreshToken={tokens[1]}"}).status_code


def kid_of(token: str) -> str:
    return str(header_of(token)["kid"])


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(unb64(token.split(".", maxsplit=1)[0]))
    return header


def published(app: Flask) -> list[dict[str, str]]:
    jwks = app.test_client().get("/.well-known/jwks.json")
    assert jwks.status_code == 200
    return list(jwks.get_json()["keys"])


def rows(app: Flask, use: keys.Use) -> Sequence[sa.Row[Any]]:
    with app.app_context():
        of_use = sa.select(SigningKey.__table__).where(SigningKey.use == use)
        return db.execute_now(of_use.order_by(SigningKey.serial))


@USES
def test_a_key_is_next_then_current_then_retiring_then_retired(app: Flask, use: keys.Use) -> None:
    began = now()
    first(app, use, began)
    second = rotate(app, use, began)
    lead = LEAD if use == "access" else 3 * SECOND
    life_of_tokens = timedelta(minutes=15) if use == "access" else timedelta(days=7)
    over = began + lead + life_of_tokens + timedelta(seconds=61)
    assert second.activates_at == began + lead
    for moment, expected in (
        (began, ["current", "next"]),
        (began + lead - SECOND / 1000, ["current", "next"]),
        (began + lead, ["retiring", "current"]),
        (over - SECOND / 1000, ["retiring", "current"]),
        (over, ["retired", "current"]),
    ):
        assert states(app, moment, use) == expected
        with app.app_context():
            ring = keys.load(moment)
        assert len([kid for kid, key in ring.by_kid.items() if key.use == use]) == 2 - (expected[0] == "retired")
        assert (ring.signing[use].kid == second.kid) is (expected[1] == "current")


@USES
def test_a_rotation_before_the_first_use_makes_the_first_key(app: Flask, use: keys.Use) -> None:
    at = now()
    made = rotate(app, use, at)
    assert (made.state, made.activates_at) == ("current", at)
    create_user(app)
    assert statuses(app, login(app)) == (200, 200)
    assert [row.kid for row in rows(app, use)] == [made.kid]


def test_only_one_key_can_wait(app: Flask) -> None:
    at = now()
    first(app, "access", at)
    rotate(app, "access", at)
    with pytest.raises(errors.KeyPending):
        rotate(app, "access", at + LEAD - SECOND)
    rotate(app, "access", at + LEAD)
    assert states(app, at + LEAD) == ["retiring", "current", "next"]


@pytest.mark.parametrize("before", [0, 1])
def test_of_two_operators_who_rotate_at_once_one_succeeds(app: Flask, before: int) -> None:
    at = now()
    if before:
        first(app, "access", at)

    def attempt() -> str:
        try:
            return rotate(app, "access", at).state
        except errors.KeyPending:
            return "pending"

    outcomes = sorted(at_once(*[attempt] * 4))
    # Before the first key there is none to wait for: whoever comes later makes a next one.
    allowed = [["next", *["pending"] * 3]] if before else [["current", *["pending"] * 3], ["current", "next"]]
    assert any(outcomes[: len(each)] == each for each in allowed), outcomes
    assert states(app, at).count("current") == 1
    assert states(app, at).count("next") <= 1


def test_a_drop_and_a_rotation_at_once_leave_one_key_that_signs(app: Flask) -> None:
    for _ in range(5):
        at = now()
        dropped = signer(app, "access", at)
        waiting = [row.kid for row in rows(app, "access") if row.activates_at > at and row.retired_at is None]
        for kid in waiting:
            retire(app, kid, at)

        def attempt(at: datetime = at) -> str:
            try:
                return rotate(app, "access", at).kid
            except errors.KeyPending:
                return "pending"

        at_once(lambda kid=dropped, at=at: str(retire(app, kid, at)), attempt)  # type: ignore[misc]  # mypy guesses no lambda's defaults
        live = [row for row in rows(app, "access") if row.retired_at is None]
        assert states(app, at).count("current") == 1
        assert dropped not in {row.kid for row in live}
        assert [row.verifies_until for row in live].count(None) == 1


def test_first_keys_made_at_the_same_moment_are_one(database_url: str, restart: Restart) -> None:
    assert database_url
    apps = [restart() for _ in range(4)]
    for use in keys.USES:
        assert len(set(at_once(*[partial(first, app, use) for app in apps]))) == 1
    with apps[0].app_context():
        lifecycle.create_first("access", now())  # by a process that looked before the others wrote
    assert len(rows(apps[0], "access")) == 1


@SQLITE
def test_a_first_key_of_a_host_whose_clock_is_ahead_signs_all_the_same(app: Flask) -> None:
    ahead = first(app, "access", now() + timedelta(seconds=5))
    assert signer(app, "access", now()) == ahead
    assert len(rows(app, "access")) == 1


@USES
def test_a_next_key_that_is_dropped_leaves_all_as_it_was(app: Flask, use: keys.Use) -> None:
    at = now()
    began = first(app, use, at)
    with app.app_context():
        assert lifecycle.retire(lifecycle.rotate(use, at).kid, at) == 0
    later = at + timedelta(days=400)
    assert states(app, later, use) == ["current", "retired"]
    assert signer(app, use, later) == began


@USES
def test_a_dropped_key_hands_over_to_the_one_that_waits(app: Flask, use: keys.Use) -> None:
    at = now()
    old = first(app, use, at)
    waiting = rotate(app, use, at)
    retire(app, old, at + SECOND)
    assert states(app, at + SECOND, use) == ["retired", "current"]
    assert signer(app, use, at + SECOND) == waiting.kid
    assert states(app, at + timedelta(days=400), use) == ["retired", "current"]


@SQLITE
@pytest.mark.parametrize("alg", ["EdDSA", "HS256"])
def test_a_dropped_key_without_a_successor_gets_one_of_its_kind(app: Flask, alg: keys.Alg) -> None:
    at = now()
    retire(app, rotate(app, "access", at, alg=alg).kid, at)
    assert states(app, at) == ["retired", "current"]
    assert rows(app, "access")[1].algorithm == alg


@SQLITE
def test_a_dropped_retiring_key_changes_nothing_else(app: Flask) -> None:
    at = now()
    old = first(app, "access", at)
    second = rotate(app, "access", at)
    retire(app, old, at + LEAD)
    assert states(app, at + LEAD) == ["retired", "current"]
    assert signer(app, "access", at + LEAD) == second.kid


@SQLITE
def test_a_key_that_verifies_live_tokens_is_kept_until_they_are_dead(app: Flask) -> None:
    at = now()
    old = first(app, "access", at)
    create_user(app)
    login(app)
    rotate(app, "access", at)
    with app.app_context():
        for moment in (at + SECOND, at + LEAD + SECOND, at + LEAD + timedelta(minutes=15)):
            with pytest.raises(errors.KeyInUse) as refusal:
                lifecycle.retire(old, moment)
            assert "still verifies live tokens" in refusal.value.detail
        assert lifecycle.retire(old, at + LEAD + timedelta(minutes=17)) == 0
        with pytest.raises(errors.KeyNotFound):
            lifecycle.retire(old, now(), at_once=True)
        with pytest.raises(errors.KeyNotFound):
            lifecycle.count_affected_sessions("unknown", now())


def test_dropping_a_refresh_key_ends_the_sessions_that_it_signed_and_no_others(app: Flask) -> None:
    create_user(app)
    at = now()
    first(app, "refresh", at - HOUR)
    rotate(app, "refresh", at - HOUR / 2)
    dropped = rows(app, "refresh")[1].kid
    early, mine, gone = (claims_of(login(app)[1])["sid"] for _ in range(3))
    with app.app_context():
        moved = {"created_at": at - 40 * timedelta(minutes=1), "expires_at": at + HOUR}
        db.execute_now(sa.update(Session).where(Session.id == early).values(moved))
        db.execute_now(sa.update(Session).where(Session.id == gone).values(expires_at=at - SECOND))
        after = now()
        assert lifecycle.count_affected_sessions(dropped, after) == 1
        assert lifecycle.retire(dropped, after, at_once=True) == 1
        reasons = {row.id: row.revoked_reason for row in db.execute_now(sa.select(Session.id, Session.revoked_reason))}
    assert reasons == {early: None, mine: "key_dropped", gone: None}


@SQLITE
def test_dropping_a_refresh_key_ends_any_number_of_sessions(app: Flask) -> None:
    user, at = create_user(app), now()
    dropped = first(app, "refresh", at)
    usual = {"user_id": user, "generation": 0, "current_jti": "jti", "authenticated_at": at, "created_at": at}
    usual |= {"expires_at": at + HOUR, "ends_at": at + HOUR}
    with app.app_context(), db.writing() as writer:
        writer.execute(sa.insert(Session), [usual | {"id": f"s{place}"} for place in range(2100)])
    assert retire(app, dropped, at + SECOND) == 2100
    with app.app_context():
        assert db.execute_now(sa.select(sa.func.count()).where(Session.revoked_at.is_(None)))[0][0] == 0


@SQLITE
def test_dropping_an_access_key_ends_no_session_and_counts_live_tokens_only(app: Flask) -> None:
    create_user(app)
    began = now() - timedelta(hours=3)
    dropped = first(app, "access", began)
    sid = claims_of(login(app)[1])["sid"]
    fresh = login(app)
    with app.app_context():
        db.execute_now(sa.update(Session).where(Session.id == sid).values(created_at=now() - HOUR))
    assert retire(app, dropped, now()) == 1
    with app.app_context():
        keys.load(now())
    assert statuses(app, fresh) == (403, 200)


def test_a_replacement_is_known_at_once_to_a_process_that_has_not_heard_of_it(restart: Restart) -> None:
    here, there = (restart(TOKENAPP_REVOCATION_DELAY="60") for _ in range(2))
    create_user(here)
    assert statuses(there, login(here)) == (200, 200)
    for use in keys.USES:
        retire(here, first(here, use), now())
    with here.app_context():
        keys.load(now())
    sleep(0.15)  # unknown names make the ring be read ten times a second at most
    assert statuses(there, login(here)) == (200, 200)


@SQLITE
def test_who_finds_the_ring_too_old_waits_for_the_new_one(app: Flask) -> None:
    old = first(app)
    new = rotate(app, "access", now())
    later = now() + HOUR / 4
    with app.app_context():
        renewing = db.per_process(keyring._Cache).renewing

    def ask() -> str:
        with app.app_context():
            return keys.current(later).signing["access"].kid

    with ThreadPoolExecutor(1) as pool:
        with renewing:
            asked = pool.submit(ask)
            sleep(0.1)
            assert not asked.done(), "the old ring was given while another request asked for the new one"
        assert asked.result(5) == new.kid != old


@SQLITE
def test_the_ring_goes_on_while_the_database_is_away(app: Flask) -> None:
    kid = first(app)
    with app.app_context():
        path = Path(str(db.db.engine.url.database))
        path.rename(path.with_suffix(".away"))
        later = now() + 5 * SECOND
        assert keys.current(later).signing["access"].kid == kid
        assert keys.find(kid, later) is not None
        with pytest.raises(sa.exc.OperationalError):
            keys.find("a-name-nobody-has-heard-of", later)
        path.with_suffix(".away").rename(path)
        assert keys.find("a-name-nobody-has-heard-of", later + SECOND) is None


def test_a_new_secret_key_with_its_fallback_seals_the_keys_anew_so_that_the_fallback_can_go(restart: Restart) -> None:
    old = restart()
    create_user(old)
    tokens = login(old)
    rotate(old, "access", now())
    sealed = [row.sealed for use in keys.USES for row in rows(old, use)]
    changed = restart(SECRET_KEY=OTHER_KEY, SECRET_KEY_FALLBACKS=old.config["TOKENAPP"].secret_key)
    assert statuses(changed, tokens) == (200, 200)
    assert not set(sealed) & {row.sealed for use in keys.USES for row in rows(old, use)}
    assert statuses(old, tokens) == (200, 200), "a process that still has the former key opened its keys before"
    assert statuses(restart(SECRET_KEY=OTHER_KEY), tokens) == (200, 200)


@SQLITE
def test_without_the_fallback_requests_fail_as_a_fault_and_nobody_is_signed_out(restart: Restart) -> None:
    old = restart()
    create_user(old)
    tokens = login(old)
    wrong = restart(SECRET_KEY=OTHER_KEY)
    assert statuses(wrong, tokens) == (503, 503)
    assert wrong.test_client().get("/readyz").status_code == 503
    assert statuses(old, tokens) == (200, 200)


@SQLITE
def test_a_next_key_that_cannot_be_opened_harms_nobody_until_it_is_to_sign(restart: Restart) -> None:
    served = restart()
    create_user(served)
    tokens = login(served)
    other = restart(SECRET_KEY=OTHER_KEY, SECRET_KEY_FALLBACKS=served.config["TOKENAPP"].secret_key)
    made = rotate(other, "access", now())
    with served.app_context():
        assert made.kid not in keys.load(now()).by_kid
        assert list(lifecycle.unreadable(now())) == [made.kid]
        with pytest.raises(errors.ServiceUnavailable):
            keys.load(made.activates_at)
    assert statuses(served, tokens) == (200, 200)


def pem(private: Any, *, password: bytes | None = None, form: str = "PKCS8") -> bytes:
    encryption: Any = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return bytes(
        private.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption)
    )


def public_pem(private: Any) -> bytes:
    return bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


P256 = ec.generate_private_key(ec.SECP256R1())
RSA_3072 = rsa.generate_private_key(65537, 3072)
ED25519 = ed25519.Ed25519PrivateKey.generate()
REFUSED: dict[str, Callable[[], bytes]] = {
    "RSA of 2048 bits": lambda: pem(rsa.generate_private_key(65537, 2048)),
    "P-384": lambda: pem(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": lambda: pem(ec.generate_private_key(ec.SECP256K1())),
    "X25519": lambda: pem(x25519.X25519PrivateKey.generate()),
    "DSA": lambda: pem(dsa.generate_private_key(2048)),
    "encrypted": lambda: pem(P256, password=b"password"),
    "public": lambda: public_pem(P256),
    "cut off": lambda: pem(P256)[:-60],
    "garbage": lambda: b"garbage",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_key_that_is_weak_or_of_another_kind_is_refused(kind: str) -> None:
    with pytest.raises(errors.KeyRejected):
        keys.read_pem(REFUSED[kind]())


@pytest.mark.parametrize(
    ("text", "alg"),
    [
        (pem(P256), "ES256"),
        (pem(P256, form="TraditionalOpenSSL"), "ES256"),
        (pem(RSA_3072), "RS256"),
        (pem(RSA_3072, form="TraditionalOpenSSL"), "RS256"),
        (pem(ED25519), "EdDSA"),
    ],
)
def test_a_good_key_is_read_whatever_its_pem(text: bytes, alg: str) -> None:
    assert keys.read_pem(text)[0] == alg


@SQLITE
def test_a_key_is_taken_only_once_even_after_it_was_dropped(app: Flask) -> None:
    alg, material = keys.read_pem(pem(P256))
    at = now()
    kid = rotate(app, "access", at, alg=alg, material=material).kid
    for _ in range(2):
        with pytest.raises(errors.KeyRejected) as refusal:
            rotate(app, "access", at, alg=alg, material=material)
        assert "in use already" in refusal.value.detail
        if life_of(app, kid) != "retired":
            retire(app, kid, at)


def life_of(app: Flask, kid: str) -> str:
    with app.app_context():
        return next(info.state for info in lifecycle.list_keys(now()) if info.kid == kid)


@SQLITE
def test_refresh_tokens_are_never_signed_with_a_public_key_pair(app: Flask) -> None:
    with pytest.raises(errors.KeyRejected) as refusal:
        rotate(app, "refresh", now(), alg="ES256")
    assert "always signed with HS256" in refusal.value.detail


@SQLITE
@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_every_algorithm_works_from_sign_in_to_the_protected_route(app: Flask, alg: keys.Alg) -> None:
    kid = rotate(app, "access", now(), alg=alg).kid
    create_user(app)
    tokens = login(app)
    header = header_of(tokens[0])
    assert (header["kid"], header["alg"]) == (kid, alg)
    assert statuses(app, tokens) == (200, 200)
    public = published(app)
    assert [jwk["kid"] for jwk in public] == ([] if alg == "HS256" else [kid])
    for jwk in KeySet.import_key_set({"keys": public}).keys if public else ():  # type: ignore[typeddict-item]  # any JWKs
        assert jwk.thumbprint() == kid
        assert not jwk.is_private
    assert all(jwk["use"] == "sig" and jwk["alg"] == alg for jwk in public)


@SQLITE
def test_the_jwk_set_holds_next_current_and_retiring_keys_without_private_members(restart: Restart) -> None:
    app = restart(ACCESS_TOKEN_SECRET_FALLBACKS="an access secret of days that are gone by")
    at = now()
    former = first(app, "access", at - 2 * LEAD)
    current = rotate(app, "access", at - 2 * LEAD, alg="EdDSA").kid
    waiting = rotate(app, "access", at, alg="RS256").kid
    public = {jwk["kid"]: jwk for jwk in published(app)}
    assert public.keys() == {former, current, waiting}
    members = {frozenset(jwk) - {"kid", "use", "alg"} for jwk in public.values()}
    assert members == {
        frozenset({"kty", "crv", "x", "y"}),
        frozenset({"kty", "crv", "x"}),
        frozenset({"kty", "n", "e"}),
    }
    with app.app_context():
        keys.load(at + HOUR)
        assert former not in {jwk["kid"] for jwk in keys.public_set(at + HOUR)}


SECRETS = [f"secret number {number} which is of good length" for number in range(3)]
FIRST_ENV = {"ACCESS_TOKEN_SECRET": SECRETS[0], "REFRESH_TOKEN_SECRET": SECRETS[1]}


def test_secrets_from_the_environment_rotate_through_their_fallbacks(restart: Restart) -> None:
    app = restart(**FIRST_ENV)
    create_user(app)
    tokens = login(app)
    assert {header_of(token)["alg"] for token in tokens} == {"HS256"}
    new = {name: value.upper() for name, value in FIRST_ENV.items()}
    changed = restart(**new, **{f"{name}_FALLBACKS": value for name, value in FIRST_ENV.items()})
    assert statuses(changed, tokens) == (200, 200)
    fresh = login(changed)
    assert not {kid_of(token) for token in tokens} & {kid_of(token) for token in fresh}
    gone = restart(**new)
    assert statuses(gone, fresh) == (200, 200)
    assert statuses(gone, tokens) == (403, 403)
    assert published(changed) == []


def test_a_change_from_stored_keys_to_secrets_and_back_refuses_nobody(restart: Restart) -> None:
    stored = restart()
    create_user(stored)
    before = login(stored)
    secret = restart(**FIRST_ENV)
    assert statuses(secret, before) == (200, 200)
    meanwhile = login(secret)
    back = restart(**{f"{name}_FALLBACKS": value for name, value in FIRST_ENV.items()})
    for tokens in (before, meanwhile, login(back)):
        assert statuses(back, tokens) == (200, 200)
    assert kid_of(login(back)[0]) == kid_of(before[0])


@SQLITE
def test_dropping_a_stored_refresh_key_ends_no_session_that_a_secret_signs(restart: Restart) -> None:
    stored = restart()
    kid = first(stored, "refresh", now() - HOUR)
    app = restart(REFRESH_TOKEN_SECRET=SECRETS[1])
    create_user(app)
    tokens = login(app)
    assert retire(app, kid, now()) == 0
    assert statuses(app, tokens) == (200, 200)


def test_key_material_is_stored_sealed_and_shown_nowhere(app: Flask) -> None:
    alg, material = keys.read_pem(pem(P256))
    rotate(app, "access", now(), alg=alg, material=material)
    (row,) = rows(app, "access")
    raw = P256.private_numbers().private_value.to_bytes(32, "big")
    assert raw not in bytes(row.sealed)
    with app.app_context():
        shown = repr(keys.load(now()))
        assert config.current().secret_key not in shown
    assert str(P256.private_numbers().private_value) not in shown
    assert "secret=" not in shown
