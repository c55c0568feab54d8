"""Tokens that are not what they seem: each is refused with the one answer of its route, and changes nothing.

Unless a test says otherwise its tokens bear a *true* signature over what they say. So each shows that the very thing
which is wrong in it is looked at, and not merely that its signature fails.
"""

import base64
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from flask import Flask
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, RSAAlgorithm

from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.forge import (
    BAD_ACCESS,
    BAD_REFRESH,
    MISSING,
    Issued,
    Use,
    b64,
    changed,
    code_of,
    compact,
    issue,
    unb64,
)
from tokenapp import db, keys
from tokenapp.models import Session
from tokenapp.tokens import verification

USES: Final[tuple[Use, ...]] = ("access", "refresh")
SECRETS: Final = {"ACCESS_TOKEN_SECRET": "access " * 6, "REFRESH_TOKEN_SECRET": "refresh " * 6}
Forge = Callable[[Issued, Use], str]


@pytest.fixture(scope="module", params=["ES256 access", "HS256 refresh", "HS256 access"])
def issued(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Issued]:
    """Give a session; the last time its keys are secrets from the settings, as the program before this one had them."""
    app = make_app(databases("sqlite"), **(SECRETS if request.param == "HS256 access" else {}))
    issued = issue(app)
    alg, use = request.param.split()
    assert issued.keys[use].alg == alg
    yield issued
    with app.app_context():
        db.db.engine.dispose()


@pytest.fixture
def use(request: pytest.FixtureRequest) -> Use:
    """Give the kind of token that the test is about."""
    kind: Use = request.node.callspec.params["issued"].split()[1]
    return kind


def other(use: Use) -> Use:
    """Return the kind that it is not."""
    return "refresh" if use == "access" else "access"


def named(table: dict[str, Any]) -> pytest.MarkDecorator:
    """Run the test for each row of `table`."""
    return pytest.mark.parametrize("row", table.values(), ids=table.keys())


# What must be accepted, or nothing that is refused below would mean anything.


def test_a_token_signed_by_hand_is_accepted(issued: Issued) -> None:
    assert issued.protected(issued.sign("access")).status_code == 200
    assert issued.refresh(issued.sign("refresh")).status_code == 200


def test_the_order_of_members_and_spaces_between_them_do_not_matter(issued: Issued, use: Use) -> None:
    header = json.dumps(dict(reversed(issued.header(use).items())), indent=1).encode()
    claims = json.dumps(dict(reversed(issued.claims(use).items())), indent=1).encode()
    token = issued.sign(use, header, claims)
    assert (issued.protected if use == "access" else issued.refresh)(token).status_code == 200


def test_a_claim_that_we_do_not_know_does_not_matter(issued: Issued, use: Use) -> None:
    token = issued.with_claims(use, scope="read")
    assert (issued.protected if use == "access" else issued.refresh)(token).status_code == 200


def test_a_token_may_have_8192_bytes_and_not_one_more(issued: Issued, use: Use) -> None:
    sized = {len(token): token for token in (issued.with_claims(use, x="y" * size) for size in range(5500, 5900))}
    longest = max(size for size in sized if size <= verification.MAX_TOKEN_BYTES)
    assert verification.MAX_TOKEN_BYTES - longest <= 1
    assert (issued.protected if use == "access" else issued.refresh)(sized[longest]).status_code == 200
    issued.assert_refused(sized[min(size for size in sized if size > verification.MAX_TOKEN_BYTES)])


# The header.

ALGORITHMS = ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "PS256", "ES384", "ES512", "ES256K"]
ALGORITHMS += ["EdDSA", "dir", "es256", "hs256", "HS256 ", "ES256\x00", "HS256,ES256"]


@pytest.mark.parametrize("alg", [*ALGORITHMS, None, 1, True, [], ["HS256"], {"alg": "HS256"}, MISSING], ids=repr)
def test_no_algorithm_but_that_of_the_key_is_accepted(issued: Issued, use: Use, alg: Any) -> None:
    issued.assert_refused(issued.with_header(use, alg=alg))


def test_the_other_algorithm_of_ours_is_refused(issued: Issued, use: Use) -> None:
    alg = "ES256" if issued.keys[use].alg == "HS256" else "HS256"
    issued.assert_refused(issued.with_header(use, alg=alg))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_a_token_without_signature_is_refused(issued: Issued, use: Use, alg: str) -> None:
    for header in (issued.header(use) | {"alg": alg}, {"alg": alg, "typ": "JWT"}, {"alg": alg}):
        message = b64(compact(header)) + b"." + b64(compact(issued.claims(use)))
        issued.assert_refused(message.decode() + ".")
        issued.assert_refused(message.decode())


KIDS = ["", "../../../../../../dev/null", "/dev/null", "file:///dev/null", "https://evil.example/key", "%2e%2e%2fkey"]
KIDS += ["' OR '1'='1", "x' UNION SELECT 'secret", "x;DROP TABLE users", "\x00", "\n", "key\x00", "ключ", "\ud800"]
KIDS += ["k" * 5000, "$(id)", "|id", "0", "null", "access", "refresh"]


@pytest.mark.parametrize("kid", [*KIDS, None, 0, 1.5, True, [], ["kid"], {}, {"kid": 1}, MISSING], ids=repr)
def test_a_kid_that_names_no_key_of_ours_is_refused(issued: Issued, use: Use, kid: Any) -> None:
    issued.assert_refused(issued.with_header(use, kid=kid))


def test_a_kid_is_compared_to_the_letter(issued: Issued, use: Use) -> None:
    kid = issued.keys[use].kid
    for near in (kid + " ", " " + kid, kid + "\x00", kid.swapcase(), kid[:-1], kid + "=", [kid]):
        issued.assert_refused(issued.with_header(use, kid=near))


TYPES = ["JWT", "jwt", "", "AT+JWT", "at+JWT", "Refresh+jwt", "application/at+jwt", "application/refresh+jwt"]
TYPES += ["at+jwt ", "at jwt", "JWE", "id_token+jwt"]


@pytest.mark.parametrize("typ", [*TYPES, None, 0, True, [], ["at+jwt"], {}, MISSING], ids=repr)
def test_no_typ_but_that_of_the_key_is_accepted(issued: Issued, use: Use, typ: Any) -> None:
    issued.assert_refused(issued.with_header(use, typ=typ))


MORE_MEMBERS: Final = {
    "crit": {"crit": ["exp"]},
    "crit of something unknown": {"crit": ["http://evil.example/x"], "http://evil.example/x": 1},
    "empty crit": {"crit": []},
    "crit that is no list": {"crit": "exp"},
    "b64 true": {"b64": True},
    "b64 false": {"b64": False},
    "b64 false and critical": {"b64": False, "crit": ["b64"]},
    "zip": {"zip": "DEF"},
    "cty": {"cty": "JWT"},
    "enc": {"enc": "A256GCM"},
    "jku": {"jku": "https://evil.example/jwks.json"},
    "x5u": {"x5u": "https://evil.example/cert.pem"},
    "x5c": {"x5c": ["MIIB"]},
    "x5t": {"x5t": "AAAA"},
    "jwk": {"jwk": {"kty": "oct", "k": "AAAA"}},
    "iss": {"iss": "http://localhost:3005"},
    "epk": {"epk": {}},
    "anything": {"anything": None},
}


@named(MORE_MEMBERS)
def test_a_header_has_three_members_and_no_more(issued: Issued, use: Use, row: dict[str, Any]) -> None:
    issued.assert_refused(issued.with_header(use, **row))


@pytest.mark.parametrize("member", ["alg", "kid", "typ"])
def test_a_member_twice_in_the_header_is_refused(issued: Issued, use: Use, member: str) -> None:
    header = compact(issued.header(use))
    again = compact({member: issued.header(use)[member]})[1:-1]
    issued.assert_refused(issued.sign(use, b"{" + again + b"," + header[1:]))
    issued.assert_refused(issued.sign(use, header[:-1] + b',"' + member.encode() + b'":"none"}'))
    escaped = rf'"\u{ord(member[0]):04x}{member[1:]}":'.encode() + compact(issued.header(use)[member])
    issued.assert_refused(issued.sign(use, header[:-1] + b"," + escaped + b"}"))


# Keys.


def public_forms(key: ec.EllipticCurvePublicKey) -> dict[str, bytes]:
    """Return all the bytes by which somebody might know our public key."""
    encoding, form = serialization.Encoding, serialization.PublicFormat
    pem = key.public_bytes(encoding.PEM, form.SubjectPublicKeyInfo)
    der = key.public_bytes(encoding.DER, form.SubjectPublicKeyInfo)
    jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    numbers = key.public_numbers()
    return {
        "PEM": pem,
        "PEM without its last line end": pem.rstrip(),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "PEM body": b"".join(pem.splitlines()[1:-1]),
        "DER": der,
        "base64 of DER": base64.b64encode(der),
        "base64url of DER": b64(der),
        "point": key.public_bytes(encoding.X962, form.UncompressedPoint),
        "compressed point": key.public_bytes(encoding.X962, form.CompressedPoint),
        "x and y": numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"),
        "x": numbers.x.to_bytes(32, "big"),
        "x in base64url": jwk["x"].encode(),
        "JWK": json.dumps(jwk).encode(),
        "JWK without spaces": compact(jwk),
        "JWK of a thumbprint": compact({name: jwk[name] for name in ("crv", "kty", "x", "y")}),
        "OpenSSH": key.public_bytes(encoding.OpenSSH, form.OpenSSH),
        "nothing": b"",
        "a NUL": b"\x00",
        "thirty-two NULs": bytes(32),
    }


PUBLIC_FORMS: Final = list(public_forms(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize("form", PUBLIC_FORMS)
@pytest.mark.parametrize("alg", ["HS256", "ES256"])
def test_our_public_key_is_no_hmac_secret(issued: Issued, use: Use, form: str, alg: str) -> None:
    with issued.app.app_context():
        ring = keys.current(datetime.now(UTC))
    public = [key.public for key in ring.by_kid.values() if key.alg == "ES256"]
    for key in public or [ec.generate_private_key(ec.SECP256R1()).public_key()]:
        secret = public_forms(key)[form]
        for kid in (*ring.by_kid, "", secret.decode("latin-1")):
            message = b64(compact(issued.header(use) | {"alg": alg, "kid": kid})) + b"."
            message += b64(compact(issued.claims(use)))
            signature = HMACAlgorithm(HMACAlgorithm.SHA256).sign(message, secret)
            issued.assert_refused((message + b"." + b64(signature)).decode())


def test_a_key_that_the_token_brings_along_is_not_used(issued: Issued, use: Use) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    for more in ({"jwk": jwk}, {"jwk": jwk, "kid": MISSING}, {"x5c": ["MIIB"], "kid": "own"}, {}):
        header = changed(issued.header(use), alg="ES256", **more)
        message = b64(compact(header)) + b"." + b64(compact(issued.claims(use)))
        signature = ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1).sign(message, own)
        issued.assert_refused((message + b"." + b64(signature)).decode())


@pytest.mark.parametrize("member", ["jku", "x5u", "iss", "kid"])
def test_no_address_in_a_token_is_ever_called(issued: Issued, use: Use, member: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/keys.json"
        issued.assert_refused(issued.with_header(use, **{member: url}))
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_rsa_signatures_are_refused(issued: Issued, use: Use) -> None:
    own = rsa.generate_private_key(65537, 2048)
    message = b64(compact(issued.header(use) | {"alg": "RS256"})) + b"." + b64(compact(issued.claims(use)))
    issued.assert_refused((message + b"." + b64(RSAAlgorithm(RSAAlgorithm.SHA256).sign(message, own))).decode())


def test_a_secret_that_is_not_ours_is_refused(issued: Issued, use: Use) -> None:
    for secret in (b"secret", b"change-me", issued.keys[use].kid.encode(), b"your-256-bit-secret"):
        message = b64(compact(issued.header(use) | {"alg": "HS256"})) + b"." + b64(compact(issued.claims(use)))
        issued.assert_refused(
            (message + b"." + b64(HMACAlgorithm(HMACAlgorithm.SHA256).sign(message, secret))).decode()
        )


# One kind presented as the other.


def test_a_token_is_refused_where_the_other_kind_belongs(issued: Issued) -> None:
    assert code_of(issued.protected(issued.good["refresh"])) == BAD_ACCESS
    answer = issued.refresh(issued.good["access"])
    assert code_of(answer) == BAD_REFRESH
    assert "Set-Cookie" not in answer.headers


def test_a_token_of_the_wrong_kind_ends_no_session(issued: Issued) -> None:
    before = issued.row()
    assert issued.logout(cookie=issued.good["access"]).status_code == 204
    assert issued.logout(bearer=issued.good["refresh"]).status_code == 204
    assert issued.row() == before


def test_no_mixture_of_the_two_kinds_is_accepted(issued: Issued) -> None:
    made = itertools.product(USES, USES, USES, ("own", "other"), USES)
    for kid, typ, claims, type_claim, signer in made:
        if kid == typ == claims == signer and type_claim == "own":
            continue
        header = issued.header(kid) | {"typ": issued.header(typ)["typ"]}
        payload = issued.claims(claims)
        if type_claim == "other":
            payload["type"] = other(claims)
        issued.assert_refused(issued.sign(signer, header, payload))


# The form.

SHAPES: Final[dict[str, Callable[[list[str]], str]]] = {
    "two parts": lambda part: ".".join(part[:2]),
    "one part": lambda part: part[0],
    "four parts": lambda part: ".".join([*part, part[2]]),
    "five parts, as in JWE": lambda part: ".".join([part[0], "", part[1], part[1], part[2]]),
    "no header": lambda part: f".{part[1]}.{part[2]}",
    "no payload": lambda part: f"{part[0]}..{part[2]}",
    "no signature": lambda part: f"{part[0]}.{part[1]}.",
    "dots only": lambda _part: "..",
    "one dot": lambda _part: ".",
    "many dots": lambda _part: "." * 5000,
    "a dot in front": lambda part: "." + ".".join(part),
    "a dot behind": lambda part: ".".join(part) + ".",
    "parts in another order": lambda part: f"{part[1]}.{part[0]}.{part[2]}",
    "twice": lambda part: ".".join(part) * 2,
    "too long": lambda part: ".".join(part) + "A" * 8192,
    "only letters, and too many": lambda _part: "A" * 9000,
    "Bearer again": lambda part: "Bearer." + ".".join(part),
    "null": lambda _part: "null",
    "undefined": lambda _part: "undefined",
    "true": lambda _part: "true",
    "zero": lambda _part: "0",
    "not ASCII": lambda part: ".".join(part) + "é",
    "beyond Latin-1": lambda part: "я" + ".".join(part),
    "full-width letters": lambda part: ".".join([part[0], part[1], "\uff21" + part[2][1:]]),
    "percent signs": lambda part: ".".join(part).replace(".", "%2E"),
}


@named(SHAPES)
def test_only_three_parts_make_a_token(issued: Issued, use: Use, row: Callable[[list[str]], str]) -> None:
    issued.assert_refused(row(issued.good[use].split(".")))


def test_what_no_cookie_can_hold_is_no_cookie_and_a_bad_bearer_token(issued: Issued, use: Use) -> None:
    parts = issued.good[use].split(".")
    json_form = compact(dict(zip(("protected", "payload", "signature"), parts, strict=True))).decode()
    for text in (json_form, "[object Object]", '.".'.join(parts), ".".join(parts) + " x"):
        assert code_of(issued.protected(text)) == BAD_ACCESS
        assert code_of(issued.refresh(text)) == (401, "refresh_token_missing", "Refresh token not found.")


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\xa0", "\u2028", "\x00"], ids=repr)
def test_white_space_in_a_token_is_refused(issued: Issued, use: Use, blank: str) -> None:
    parts = issued.good[use].split(".")
    with issued.app.app_context():
        for place in range(3):
            for spoilt in (blank + parts[place], parts[place] + blank, parts[place][:4] + blank + parts[place][4:]):
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify(".".join([*parts[:place], spoilt, *parts[place + 1 :]]), now=datetime.now(UTC))


@pytest.mark.parametrize("spoil", [b" ", b"\n", b"\r\n", b"\t", b"=", b"==", b"!", b"\x00", b"\xa0", b"%3D"], ids=repr)
def test_what_a_lax_decoder_would_skip_is_refused_though_signed(issued: Issued, use: Use, spoil: bytes) -> None:
    header, payload = (part.encode() for part in issued.good[use].split(".")[:2])
    with issued.app.app_context():
        for message in (
            header + spoil + b"." + payload,
            header + b"." + payload + spoil,
            header + b"." + spoil + payload,
        ):
            with pytest.raises(jwt.InvalidTokenError):
                verification.verify(issued.sign_raw(use, message), now=datetime.now(UTC))


@pytest.mark.parametrize("padding", ["=", "==", "===", "===="])
def test_padding_is_refused(issued: Issued, use: Use, padding: str) -> None:
    parts = issued.good[use].split(".")
    for place in range(3):
        issued.assert_refused(".".join([*parts[:place], parts[place] + padding, *parts[place + 1 :]]))


def test_the_alphabet_with_plus_and_slash_is_refused(issued: Issued, use: Use) -> None:
    header = b64(compact(issued.header(use)))
    claims = compact(changed(issued.claims(use), x="???>>>~~~" * 3))
    standard = base64.b64encode(claims).rstrip(b"=")
    assert b"+" in standard
    assert b"/" in standard
    issued.assert_refused(issued.sign_raw(use, header + b"." + standard))
    mixed = b64(claims).replace(b"_", b"/", 1)
    issued.assert_refused(issued.sign_raw(use, header + b"." + mixed))


def other_spellings(segment: str) -> Iterator[str]:
    """Give the segments that a lax decoder takes for the same bytes: their last letter's spare bits differ."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    meant = unb64(segment)
    for letter in alphabet:
        if letter != segment[-1] and len(segment) % 4 and unb64(segment[:-1] + letter) == meant:
            yield segment[:-1] + letter


def test_a_signature_has_one_spelling(issued: Issued, use: Use) -> None:
    *signed, signature = issued.good[use].split(".")
    spellings = list(other_spellings(signature))
    assert len(spellings) == (15 if issued.keys[use].alg == "ES256" else 3)
    for spelling in spellings:
        issued.assert_refused(".".join([*signed, spelling]))


def test_a_payload_has_one_spelling_though_signed(issued: Issued, use: Use) -> None:
    tried = 0
    for pad in ("", "x", "xx"):
        header, payload, _ = issued.with_claims(use, x=pad).split(".")
        for spelling in other_spellings(payload):
            issued.assert_refused(issued.sign_raw(use, f"{header}.{spelling}".encode()))
            tried += 1
    assert tried == 15 + 3


NOT_OBJECTS = [b"", b"null", b"true", b"0", b'"text"', b"[]", b"[[]]", b"{", b"}", b"{}", b"{}{}", b"NaN", b"\xff\xfe"]


@pytest.mark.parametrize("text", NOT_OBJECTS, ids=repr)
def test_a_part_that_is_no_json_object_is_refused(issued: Issued, use: Use, text: bytes) -> None:
    issued.assert_refused(issued.sign(use, claims=text))
    issued.assert_refused(issued.sign(use, header=text))


def test_a_header_nested_deeply_is_refused(issued: Issued, use: Use) -> None:
    for text in (
        b"[" * 4000,
        b"[" * 2500 + b"]" * 2500,
        b'{"alg":' * 800,
        b'{"alg":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ):
        issued.assert_refused(issued.sign(use, header=text))


WRITTEN_OTHERWISE: Final[dict[str, Callable[[bytes], bytes]]] = {
    "with a BOM": lambda text: b"\xef\xbb\xbf" + text,
    "in UTF-16": lambda text: text.decode().encode("utf-16"),
    "in UTF-32": lambda text: text.decode().encode("utf-32"),
    "in Latin-1": lambda text: text[:-1] + b',"x":"\xe9"}',
    "with overlong UTF-8": lambda text: text[:-1] + b',"x":"\xc0\xaf"}',
    "with a surrogate in UTF-8": lambda text: text[:-1] + b',"x":"\xed\xa0\x80"}',
    "with a lone surrogate": lambda text: text[:-1] + b',"x":"\\ud800"}',
    "with a lone surrogate in a name": lambda text: text[:-1] + b',"\\udfff":1}',
    "with something behind": lambda text: text + b"x",
    "with another object behind": lambda text: text + text,
    "with a NUL behind": lambda text: text + b"\x00",
    "with a comma too many": lambda text: text[:-1] + b",}",
    "with a comment": lambda text: b"/**/" + text,
    "with single quotes": lambda text: text.replace(b'"', b"'"),
    "with names unquoted": lambda text: text.replace(b'"sid"', b"sid"),
    "with a line end in a string": lambda text: text[:-1] + b',"x":"a\nb"}',
    "with a bad escape": lambda text: text[:-1] + b',"x":"\\x41"}',
    "with a number that starts with 0": lambda text: text[:-1] + b',"x":01}',
    "with a hexadecimal number": lambda text: text[:-1] + b',"x":0x1}',
    "with NaN": lambda text: text[:-1] + b',"x":NaN}',
    "with Infinity": lambda text: text[:-1] + b',"x":Infinity}',
    "with -Infinity": lambda text: text[:-1] + b',"x":-Infinity}',
    "with an endless number": lambda text: text[:-1] + b',"x":' + b"9" * 5000 + b"}",
    "within an array": lambda text: b"[" + text + b"]",
    "within a string": lambda text: json.dumps(text.decode()).encode(),
    "nested 2000 deep": lambda text: text[:-1] + b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "nested 1000 deep in objects": lambda text: text[:-1] + b',"x":' + b'{"":' * 1000 + b"0" + b"}" * 1000 + b"}",
    "nested and never closed": lambda text: text[:-1] + b',"x":' + b"[" * 4000,
}


@named(WRITTEN_OTHERWISE)
def test_a_payload_in_other_words_than_strict_json_is_refused(
    issued: Issued, use: Use, row: Callable[[bytes], bytes]
) -> None:
    issued.assert_refused(issued.sign(use, claims=row(compact(issued.claims(use)))))


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "sid", "jti", "iss", "aud", "type"])
def test_a_claim_twice_is_refused(issued: Issued, use: Use, claim: str) -> None:
    text = compact(issued.claims(use))
    same = compact({claim: issued.claims(use)[claim]})[1:-1]
    issued.assert_refused(issued.sign(use, claims=text[:-1] + b"," + same + b"}"))
    issued.assert_refused(issued.sign(use, claims=b'{"' + claim.encode() + b'":null,' + text[1:]))


def test_a_member_twice_anywhere_inside_is_refused(issued: Issued, use: Use) -> None:
    text = compact(issued.claims(use))
    issued.assert_refused(issued.sign(use, claims=text[:-1] + b',"x":[{"a":1,"a":1}]}'))


# The claims.

TEXT_CLAIMS = ["iss", "aud", "sub", "sid", "jti", "type", "username"]
NUMBER_CLAIMS = ["iat", "exp", "auth_time", "gen"]
NO_TEXT: list[Any] = [MISSING, None, 0, 1, -1, 1.5, True, False, [], {}]
NO_NUMBER: list[Any] = [MISSING, None, True, False, "", "0", [], {}, "2030-01-01T00:00:00Z"]


def absent(issued: Issued, use: Use, claim: str) -> bool:
    return claim not in issued.claims(use)


@pytest.mark.parametrize("claim", TEXT_CLAIMS)
def test_a_text_claim_of_another_type_is_refused(issued: Issued, use: Use, claim: str) -> None:
    if claim == "username" and use == "refresh":
        assert absent(issued, use, claim)
        return
    good = issued.claims(use)[claim]
    for value in (*NO_TEXT, [good], {claim: good}, ""):
        if value == "" and claim == "username":
            continue
        issued.assert_refused(issued.with_claims(use, **{claim: value}))


@pytest.mark.parametrize("claim", NUMBER_CLAIMS)
def test_a_number_claim_of_another_type_is_refused(issued: Issued, use: Use, claim: str) -> None:
    if absent(issued, use, claim):
        assert (use, claim) in {("access", "gen"), ("refresh", "auth_time")}
        return
    good = issued.claims(use)[claim]
    for value in (*NO_NUMBER, str(good), float(good), good + 0.5, [good], {claim: good}):
        issued.assert_refused(issued.with_claims(use, **{claim: value}))
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e3", b"1.0", b"9" * 5000):
        claims = compact(changed(issued.claims(use), **{claim: "@"})).replace(b'"@"', text)
        issued.assert_refused(issued.sign(use, claims=claims))


@pytest.mark.parametrize("value", [MISSING, None, "true", "", 0.5, 1.0, [], [True], {}], ids=repr)
def test_fresh_is_a_truth_or_a_time(issued: Issued, value: Any) -> None:
    issued.assert_refused(issued.with_claims("access", fresh=value))


@pytest.mark.parametrize("value", ["", "Access", "REFRESH", "id", "access ", "access refresh"], ids=repr)
def test_no_other_type_claim_is_accepted(issued: Issued, use: Use, value: str) -> None:
    issued.assert_refused(issued.with_claims(use, type=value))
    issued.assert_refused(issued.with_claims(use, type=other(use)))


def test_another_issuer_is_refused(issued: Issued, use: Use) -> None:
    ours = issued.claims(use)["iss"]
    for issuer in ("https://evil.example", ours + "/", ours.upper(), ours[:-1], "", "localhost:3005", ours + "\x00"):
        issued.assert_refused(issued.with_claims(use, iss=issuer))


def test_another_audience_is_refused(issued: Issued, use: Use) -> None:
    ours, others = issued.claims(use)["aud"], issued.claims(other(use))["aud"]
    for audience in (others, [ours], [ours, others], f"{ours} {others}", ours + "x", ours.upper() + "/", "*", ""):
        issued.assert_refused(issued.with_claims(use, aud=audience))


BAD_IDS = ["", "\x00", "a\x00b", "\ud800", "a\n", "two words", "é", "x" * 5000, "\x7f"]


@pytest.mark.parametrize("claim", ["sub", "sid", "jti"])
def test_an_id_that_no_database_could_hold_is_refused(issued: Issued, use: Use, claim: str) -> None:
    for value in BAD_IDS:
        issued.assert_refused(issued.with_claims(use, **{claim: value}))


def test_a_name_that_cannot_be_written_down_is_refused(issued: Issued) -> None:
    issued.assert_refused(issued.with_claims("access", username="\ud800"))


@pytest.mark.parametrize("issued_at_and_expires_in", [(0, 0), (0, -1), (0, -(10**18)), (-30, -31)], ids=repr)
def test_a_token_that_ends_before_it_begins_is_refused(
    issued: Issued, use: Use, issued_at_and_expires_in: tuple[int, int]
) -> None:
    start, length = issued_at_and_expires_in
    now = int(time.time())
    issued.assert_refused(issued.with_claims(use, iat=now - start, exp=now - start + length))


@pytest.mark.parametrize(
    "excess", [1, 3600, 10**9, 10**18, 10**400], ids=["a second", "an hour", "years", "ages", "ever"]
)
def test_a_token_that_lives_longer_than_policy_is_refused(issued: Issued, use: Use, excess: int) -> None:
    policy = {"access": 900, "refresh": 7 * 86400}[use]
    now = int(time.time())
    issued.assert_refused(issued.with_claims(use, iat=now, exp=now + policy + excess))
    issued.assert_refused(issued.with_claims(use, iat=now - excess, exp=now + policy))


@pytest.mark.parametrize("ahead", [300, 86400, 10**18, 10**400], ids=["minutes", "a day", "ages", "for ever"])
def test_a_token_from_the_future_is_refused(issued: Issued, use: Use, ahead: int) -> None:
    now = int(time.time())
    issued.assert_refused(issued.with_claims(use, iat=now + ahead, exp=now + ahead + 60))
    issued.assert_refused(issued.with_claims(use, nbf=now + ahead))


@pytest.mark.parametrize("age", [1, 3600, 10**8, 10**18, 10**400], ids=["just now", "an hour", "years", "ages", "ever"])
def test_an_authentic_refresh_token_past_its_time_is_told_apart(issued: Issued, age: int) -> None:
    now = int(time.time())
    answer = issued.refresh(issued.with_claims("refresh", iat=now - age - 60, exp=now - age))
    assert code_of(answer) == (403, "refresh_token_expired", "Refresh token invalid or expired.")
    assert "Set-Cookie" not in answer.headers


def test_an_expired_refresh_token_of_another_key_is_not_told_apart(issued: Issued) -> None:
    now = int(time.time())
    spoilt = issued.with_claims("refresh", iat=now - 120, exp=now - 60)[:-4] + "AAAA"
    assert code_of(issued.refresh(spoilt)) == BAD_REFRESH


@pytest.mark.parametrize("age", [1, 3600, 10**8, 10**18, 10**400], ids=["just now", "an hour", "years", "ages", "ever"])
def test_an_access_token_past_its_time_gets_the_one_answer(issued: Issued, age: int) -> None:
    now = int(time.time())
    assert code_of(issued.protected(issued.with_claims("access", iat=now - age - 60, exp=now - age))) == BAD_ACCESS


def test_a_token_is_over_in_the_very_second_that_it_names(issued: Issued, use: Use) -> None:
    end = datetime.fromtimestamp(issued.claims(use)["exp"], UTC)
    with issued.app.app_context():
        assert verification.verify(issued.good[use], now=end - timedelta(milliseconds=1))
        for moment in (end, end + timedelta(days=1)):
            with pytest.raises(jwt.ExpiredSignatureError):
                verification.verify(issued.good[use], now=moment)
        assert verification.verify(issued.good[use], now=end, allow_expired=True)


# Every way to spoil a good one.


def test_every_truncation_is_refused(issued: Issued, use: Use) -> None:
    token = issued.good[use]
    with issued.app.app_context():
        assert verification.verify(token, now=datetime.now(UTC))
        for cut in range(len(token)):
            for piece in (token[:cut], token[cut + 1 :]):
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify(piece, now=datetime.now(UTC))


def test_every_flipped_character_is_refused(issued: Issued, use: Use) -> None:
    token = issued.good[use]
    with issued.app.app_context():
        for place, letter in enumerate(token):
            for flipped in {"A" if letter != "A" else "B", chr(ord(letter) ^ 1), "." if letter != "." else "A"}:
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify(token[:place] + flipped + token[place + 1 :], now=datetime.now(UTC))


def test_a_sample_of_spoilt_tokens_gets_the_one_answer_over_http(issued: Issued, use: Use) -> None:
    token = issued.good[use]
    for place in range(1, len(token), 29):
        issued.assert_refused(token[:place])
        issued.assert_refused(token[:place] + chr(ord(token[place]) ^ 1) + token[place + 1 :])


def test_a_signature_of_one_token_fits_no_other(issued: Issued, use: Use) -> None:
    one, two = (issued.with_claims(use, jti=name).split(".") for name in ("one", "two"))
    issued.assert_refused(".".join([*one[:2], two[2]]))


# The sessions behind the tokens.


def test_a_token_of_a_session_that_ended_is_answered_as_revoked(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    issued = issue(app)
    assert issued.logout(cookie=issued.good["refresh"]).status_code == 204
    for _ in range(2):
        answer = issued.refresh(issued.good["refresh"])
        assert code_of(answer) == BAD_REFRESH
        assert "Set-Cookie" not in answer.headers
    # The library's list of ended sessions did not answer for the domain, which knows the reason.
    assert capfd.readouterr().err.count("session ended: logout") == 2


def test_a_token_of_no_session_is_answered_as_revoked(app: Flask) -> None:
    issued = issue(app)
    before = issued.row()
    for sid in ("nobody", issued.claims("refresh")["sid"][:-1], "'--", "x" * 128):
        answer = issued.refresh(issued.with_claims("refresh", sid=sid))
        assert code_of(answer) == BAD_REFRESH
        assert issued.logout(cookie=issued.with_claims("refresh", sid=sid)).status_code == 204
    assert issued.row() == before


def test_an_expired_but_authentic_refresh_token_still_signs_out(app: Flask) -> None:
    issued = issue(app)
    now = int(time.time())
    assert issued.logout(cookie=issued.with_claims("refresh", iat=now - 120, exp=now - 60)).status_code == 204
    assert code_of(issued.refresh(issued.good["refresh"])) == BAD_REFRESH


def test_an_expired_access_token_does_not_sign_out(app: Flask) -> None:
    issued = issue(app)
    now = int(time.time())
    assert issued.logout(bearer=issued.with_claims("access", iat=now - 120, exp=now - 60)).status_code == 204
    assert issued.refresh(issued.good["refresh"]).status_code == 200


def test_reuse_reaches_the_domain_and_ends_the_session(database_url: str) -> None:
    app = make_app(database_url, TOKENAPP_REFRESH_GRACE="0")
    issued = issue(app)
    assert issued.refresh(issued.good["refresh"]).status_code == 200
    assert code_of(issued.refresh(issued.good["refresh"])) == BAD_REFRESH
    with app.app_context():
        reason = db.execute_now(sa.select(Session.revoked_reason))
        db.db.engine.dispose()
    assert [row[0] for row in reason] == ["reuse"]


def test_a_token_ahead_of_the_database_is_refused_and_the_session_left_alone(app: Flask) -> None:
    issued = issue(app)
    before = issued.row()
    assert code_of(issued.refresh(issued.with_claims("refresh", jti="later", gen=10**30))) == BAD_REFRESH
    assert issued.row() == before
