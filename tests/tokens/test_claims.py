"""The claims of a token: each must be present, of the right type and acceptable."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from tests.support.forge import BAD_ACCESS, BAD_REFRESH, MISSING, Issued, Use, changed, compact
from tests.tokens.conftest import other
from tokenapp.tokens import verification

TEXT_CLAIMS = ["iss", "aud", "sub", "sid", "jti", "type", "username"]
NUMBER_CLAIMS = ["iat", "exp", "auth_time", "gen"]
NOT_TEXT: list[Any] = [MISSING, None, 0, 1, -1, 1.5, True, False, [], {}]
NOT_A_NUMBER: list[Any] = [MISSING, None, True, False, "", "0", [], {}, "2030-01-01T00:00:00Z"]
AGES = pytest.mark.parametrize(
    "age", [1, 3600, 10**8, 10**18, 10**400], ids=["a second", "an hour", "years", "10^18 s", "10^400 s"]
)


def absent(issued: Issued, use: Use, claim: str) -> bool:
    return claim not in issued.claims(use)


@pytest.mark.parametrize("claim", TEXT_CLAIMS)
def test_text_claim_of_another_type_is_rejected(issued: Issued, use: Use, claim: str) -> None:
    if claim == "username" and use == "refresh":
        assert absent(issued, use, claim)
        return
    good = issued.claims(use)[claim]
    for value in (*NOT_TEXT, [good], {claim: good}, ""):
        if value == "" and claim == "username":
            continue
        issued.assert_rejected(issued.with_claims(use, **{claim: value}))


@pytest.mark.parametrize("claim", NUMBER_CLAIMS)
def test_number_claim_of_another_type_is_rejected(issued: Issued, use: Use, claim: str) -> None:
    if absent(issued, use, claim):
        assert (use, claim) in {("access", "gen"), ("refresh", "auth_time")}
        return
    good = issued.claims(use)[claim]
    for value in (*NOT_A_NUMBER, str(good), float(good), good + 0.5, [good], {claim: good}):
        issued.assert_rejected(issued.with_claims(use, **{claim: value}))
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e3", b"1.0", b"9" * 5000):
        claims = compact(changed(issued.claims(use), **{claim: "@"})).replace(b'"@"', text)
        issued.assert_rejected(issued.sign(use, claims=claims))


@pytest.mark.parametrize("value", [MISSING, None, "true", "", 0.5, 1.0, [], [True], {}], ids=repr)
def test_fresh_must_be_a_boolean_or_a_time(issued: Issued, value: Any) -> None:
    issued.assert_rejected(issued.with_claims("access", fresh=value))


@pytest.mark.parametrize("value", ["", "Access", "REFRESH", "id", "access ", "access refresh"], ids=repr)
def test_another_type_claim_is_rejected(issued: Issued, use: Use, value: str) -> None:
    issued.assert_rejected(issued.with_claims(use, type=value))
    issued.assert_rejected(issued.with_claims(use, type=other(use)))


def test_another_issuer_is_rejected(issued: Issued, use: Use) -> None:
    own = issued.claims(use)["iss"]
    for issuer in ("https://evil.example", own + "/", own.upper(), own[:-1], "", "localhost:3005", own + "\x00"):
        issued.assert_rejected(issued.with_claims(use, iss=issuer))


def test_another_audience_is_rejected(issued: Issued, use: Use) -> None:
    own, others = issued.claims(use)["aud"], issued.claims(other(use))["aud"]
    for audience in (others, [own], [own, others], f"{own} {others}", own + "x", own.upper() + "/", "*", ""):
        issued.assert_rejected(issued.with_claims(use, aud=audience))


BAD_IDS = ["", "\x00", "a\x00b", "\ud800", "a\n", "two words", "é", "x" * 5000, "\x7f"]


@pytest.mark.parametrize("claim", ["sub", "sid", "jti"])
def test_id_that_a_database_cannot_store_is_rejected(issued: Issued, use: Use, claim: str) -> None:
    for value in BAD_IDS:
        issued.assert_rejected(issued.with_claims(use, **{claim: value}))


def test_user_name_that_cannot_be_encoded_is_rejected(issued: Issued) -> None:
    issued.assert_rejected(issued.with_claims("access", username="\ud800"))


# Times.


@pytest.mark.parametrize(("age", "length"), [(0, 0), (0, -1), (0, -(10**18)), (-30, -31)])
def test_token_that_expires_before_it_is_issued_is_rejected(issued: Issued, use: Use, age: int, length: int) -> None:
    issued_at = int(time.time()) - age
    issued.assert_rejected(issued.with_claims(use, iat=issued_at, exp=issued_at + length))


@pytest.mark.parametrize(
    "excess", [1, 3600, 10**9, 10**18, 10**400], ids=["a second", "an hour", "years", "10^18 s", "10^400 s"]
)
def test_lifetime_that_exceeds_the_policy_is_rejected(issued: Issued, use: Use, excess: int) -> None:
    policy = {"access": 900, "refresh": 7 * 86400}[use]
    now = int(time.time())
    issued.assert_rejected(issued.with_claims(use, iat=now, exp=now + policy + excess))
    issued.assert_rejected(issued.with_claims(use, iat=now - excess, exp=now + policy))


@pytest.mark.parametrize("ahead", [300, 86400, 10**18, 10**400], ids=["minutes", "a day", "10^18 s", "10^400 s"])
def test_token_from_the_future_is_rejected(issued: Issued, use: Use, ahead: int) -> None:
    now = int(time.time())
    issued.assert_rejected(issued.with_claims(use, iat=now + ahead, exp=now + ahead + 60))
    issued.assert_rejected(issued.with_claims(use, nbf=now + ahead))


@AGES
def test_expired_refresh_token_has_its_own_error(issued: Issued, age: int) -> None:
    now = int(time.time())
    response = issued.refresh(issued.with_claims("refresh", iat=now - age - 60, exp=now - age))
    assert response.problem == (403, "refresh_token_expired", "Refresh token invalid or expired.")
    assert response.cookie is None


def test_expired_refresh_token_with_a_bad_signature_gets_the_usual_error(issued: Issued) -> None:
    now = int(time.time())
    modified = issued.with_claims("refresh", iat=now - 120, exp=now - 60)[:-4] + "AAAA"
    assert issued.refresh(modified).problem == BAD_REFRESH


@AGES
def test_expired_access_token_gets_the_usual_error(issued: Issued, age: int) -> None:
    now = int(time.time())
    assert issued.protected(issued.with_claims("access", iat=now - age - 60, exp=now - age)).problem == BAD_ACCESS


def test_token_expires_at_the_very_moment_of_its_exp(issued: Issued, use: Use) -> None:
    end = datetime.fromtimestamp(issued.claims(use)["exp"], UTC)
    with issued.app.app_context():
        assert verification.verify(issued.good[use], now=end - timedelta(milliseconds=1))
        for moment in (end, end + timedelta(days=1)):
            with pytest.raises(jwt.ExpiredSignatureError):
                verification.verify(issued.good[use], now=moment)
        assert verification.verify(issued.good[use], now=end, allow_expired=True)
