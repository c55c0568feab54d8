"""The header of a token: algorithm, key id and type, and no other member.

Most forged tokens of this folder have a *valid* signature over their content. So a rejection shows that the wrong
detail itself is checked, not only the signature.
"""

import json
from typing import Any, Final

import pytest

from tests.support.forge import MISSING, Issued, Use, b64, compact
from tests.tokens.conftest import each_row

# What must be accepted. Otherwise the rejections would prove nothing.


def test_token_signed_by_hand_is_accepted(issued: Issued) -> None:
    assert issued.protected(issued.sign("access")).status == 200
    assert issued.refresh(issued.sign("refresh")).status == 200


def test_order_and_spacing_of_members_do_not_matter(issued: Issued, use: Use) -> None:
    header = json.dumps(dict(reversed(issued.header(use).items())), indent=1).encode()
    claims = json.dumps(dict(reversed(issued.claims(use).items())), indent=1).encode()
    assert issued.present(use, issued.sign(use, header, claims)).status == 200


def test_unknown_claim_is_ignored(issued: Issued, use: Use) -> None:
    assert issued.present(use, issued.with_claims(use, scope="read")).status == 200


# The algorithm.

ALGORITHMS = ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256", "PS256", "ES384", "ES512", "ES256K"]
ALGORITHMS += ["EdDSA", "dir", "es256", "hs256", "HS256 ", "ES256\x00", "HS256,ES256"]


@pytest.mark.parametrize("alg", [*ALGORITHMS, None, 1, True, [], ["HS256"], {"alg": "HS256"}, MISSING], ids=repr)
def test_algorithm_other_than_that_of_the_key_is_rejected(issued: Issued, use: Use, alg: Any) -> None:
    issued.assert_rejected(issued.with_header(use, alg=alg))


def test_algorithm_of_the_other_key_is_rejected(issued: Issued, use: Use) -> None:
    alg = "ES256" if issued.keys[use].alg == "HS256" else "HS256"
    issued.assert_rejected(issued.with_header(use, alg=alg))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
def test_unsigned_token_is_rejected(issued: Issued, use: Use, alg: str) -> None:
    for header in (issued.header(use) | {"alg": alg}, {"alg": alg, "typ": "JWT"}, {"alg": alg}):
        message = b64(compact(header)) + b"." + b64(compact(issued.claims(use)))
        issued.assert_rejected(message.decode() + ".")
        issued.assert_rejected(message.decode())


# The key id.

KIDS = ["", "../../../../../../dev/null", "/dev/null", "file:///dev/null", "https://evil.example/key", "%2e%2e%2fkey"]
KIDS += ["' OR '1'='1", "x' UNION SELECT 'secret", "x;DROP TABLE users", "\x00", "\n", "key\x00", "ключ", "\ud800"]
KIDS += ["k" * 5000, "$(id)", "|id", "0", "null", "access", "refresh"]


@pytest.mark.parametrize("kid", [*KIDS, None, 0, 1.5, True, [], ["kid"], {}, {"kid": 1}, MISSING], ids=repr)
def test_kid_of_no_key_is_rejected(issued: Issued, use: Use, kid: Any) -> None:
    issued.assert_rejected(issued.with_header(use, kid=kid))


def test_kid_is_compared_exactly(issued: Issued, use: Use) -> None:
    kid = issued.keys[use].kid
    for near in (kid + " ", " " + kid, kid + "\x00", kid.swapcase(), kid[:-1], kid + "=", [kid]):
        issued.assert_rejected(issued.with_header(use, kid=near))


# The type.

TYPES = ["JWT", "jwt", "", "AT+JWT", "at+JWT", "Refresh+jwt", "application/at+jwt", "application/refresh+jwt"]
TYPES += ["at+jwt ", "at jwt", "JWE", "id_token+jwt"]


@pytest.mark.parametrize("typ", [*TYPES, None, 0, True, [], ["at+jwt"], {}, MISSING], ids=repr)
def test_typ_other_than_that_of_the_key_is_rejected(issued: Issued, use: Use, typ: Any) -> None:
    issued.assert_rejected(issued.with_header(use, typ=typ))


# Other members.

MORE_MEMBERS: Final = {
    "crit": {"crit": ["exp"]},
    "crit of an unknown member": {"crit": ["http://evil.example/x"], "http://evil.example/x": 1},
    "empty crit": {"crit": []},
    "crit as text": {"crit": "exp"},
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
    "any other": {"anything": None},
}


@each_row(MORE_MEMBERS)
def test_additional_header_member_is_rejected(issued: Issued, use: Use, row: dict[str, Any]) -> None:
    issued.assert_rejected(issued.with_header(use, **row))


@pytest.mark.parametrize("member", ["alg", "kid", "typ"])
def test_duplicate_header_member_is_rejected(issued: Issued, use: Use, member: str) -> None:
    header = compact(issued.header(use))
    again = compact({member: issued.header(use)[member]})[1:-1]
    issued.assert_rejected(issued.sign(use, b"{" + again + b"," + header[1:]))
    issued.assert_rejected(issued.sign(use, header[:-1] + b',"' + member.encode() + b'":"none"}'))
    escaped = rf'"\u{ord(member[0]):04x}{member[1:]}":'.encode() + compact(issued.header(use)[member])
    issued.assert_rejected(issued.sign(use, header[:-1] + b"," + escaped + b"}"))
