"""The service accepts no token that PyJWT rejects, and reads the same claims."""

import json
import time
from datetime import UTC, datetime
from typing import Any, Final

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.forge import MISSING, Issued, Use, b64, changed, compact
from tests.tokens.conftest import public_pem
from tokenapp import keys
from tokenapp.tokens import verification

Parts = tuple[dict[str, Any], dict[str, Any], Use, list[tuple[int, str]]]

ODD_VALUES: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just(MISSING),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=1),
)
HEADER_CHANGES: Final = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "cty", "jwk", "zip"]),
    ODD_VALUES | st.sampled_from(["none", "HS256", "ES256", "at+jwt", "refresh+jwt", "JWT", ["exp"]]),
    max_size=2,
)
TIMES: Final = st.integers(-1000, 1000).map(lambda seconds: int(time.time()) + seconds)
CLAIM_CHANGES: Final = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "sid", "jti", "iat", "exp", "nbf", "auth_time", "type", "fresh", "gen", "x"]),
    ODD_VALUES | TIMES,
    max_size=3,
)
EDITS: Final = st.lists(
    st.tuples(st.integers(0, 700), st.sampled_from(["", ".", "=", " ", "A", "-", "+", "\n"])), max_size=2
)


def verify_with_pyjwt(token: str, issued: Issued) -> dict[str, Any]:
    """Verify `token` with PyJWT's strictest options, and the key that its kid names."""
    with issued.app.app_context():
        key = keys.current(datetime.now(UTC)).by_kid[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token,
        public_pem(key) if key.alg == "ES256" else key.secret,
        algorithms=[key.alg],
        audience="tokenapp-api" if key.use == "access" else "http://localhost:3005",
        issuer="http://localhost:3005",
        leeway=verification.CLOCK_LEEWAY,
        options={"require": ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "type"], "strict_aud": True},
    )
    return claims


def forge(issued: Issued, use: Use, parts: Parts) -> str:
    """Forge a token; `parts` are header changes, claim changes, the key, and edits."""
    header, claims, signer, edits = parts
    token = issued.sign(signer, changed(issued.header(use), **header), changed(issued.claims(use), **claims))
    for place, letter in edits:
        token = token[:place] + letter + token[place + 1 :]
    return token


@settings(max_examples=300, deadline=None)
@given(
    use=st.sampled_from(keys.USES),
    parts=st.tuples(HEADER_CHANGES, CLAIM_CHANGES, st.sampled_from(keys.USES), EDITS),
)
def test_token_that_pyjwt_rejects_is_never_accepted(stored: Issued, use: Use, parts: Parts) -> None:
    token = forge(stored, use, parts)
    now = datetime.now(UTC)
    with stored.app.app_context():
        try:
            claims = verification.verify(token, now=now)
        except jwt.InvalidTokenError:
            return
    assert claims == verify_with_pyjwt(token, stored)
    assert now.timestamp() < claims["exp"]


@settings(max_examples=100, deadline=None)
@given(use=st.sampled_from(keys.USES), seconds=st.integers(-30, 0), life=st.integers(31, 900), more=st.text())
def test_valid_token_is_accepted_by_both(stored: Issued, use: Use, seconds: int, life: int, more: str) -> None:
    now = int(time.time())  # the token may expire a second later
    start = now + seconds
    token = stored.with_claims(use, iat=start, exp=start + life, x=more.encode(errors="replace").decode())
    with stored.app.app_context():
        claims = verification.verify(token, now=datetime.fromtimestamp(now, UTC))
    assert claims == verify_with_pyjwt(token, stored)


@settings(max_examples=200, deadline=None)
@given(
    token=st.one_of(st.text(), st.lists(st.binary(), max_size=6).map(lambda raws: b".".join(map(b64, raws)).decode()))
)
def test_arbitrary_text_is_rejected_without_another_exception(stored: Issued, token: str) -> None:
    with stored.app.app_context(), pytest.raises(jwt.InvalidTokenError):
        verification.verify(token, now=datetime.now(UTC))


JSON: Final = st.recursive(
    ODD_VALUES.filter(lambda value: value is not MISSING), lambda inner: st.lists(inner, max_size=3)
)


@settings(max_examples=200, deadline=None)
@given(use=st.sampled_from(keys.USES), header=JSON, claims=JSON)
def test_arbitrary_signed_json_is_rejected_without_another_exception(
    stored: Issued, use: Use, header: Any, claims: Any
) -> None:
    with stored.app.app_context():
        for token in (stored.sign(use, compact(json.loads(json.dumps(header)))), stored.sign(use, claims=[claims])):
            with pytest.raises(jwt.InvalidTokenError):
                verification.verify(token, now=datetime.now(UTC))
