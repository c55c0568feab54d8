"""The JSON in a token: one object in strict JSON, without duplicate members."""

import json
from collections.abc import Callable
from typing import Final

import pytest

from tests.support.forge import Issued, Use, compact
from tests.tokens.conftest import each_row

NOT_OBJECTS = [b"", b"null", b"true", b"0", b'"text"', b"[]", b"[[]]", b"{", b"}", b"{}", b"{}{}", b"NaN", b"\xff\xfe"]


@pytest.mark.parametrize("text", NOT_OBJECTS, ids=repr)
def test_segment_that_is_not_a_json_object_is_rejected(issued: Issued, use: Use, text: bytes) -> None:
    issued.assert_rejected(issued.sign(use, claims=text))
    issued.assert_rejected(issued.sign(use, header=text))


def test_deeply_nested_header_is_rejected(issued: Issued, use: Use) -> None:
    for text in (
        b"[" * 4000,
        b"[" * 2500 + b"]" * 2500,
        b'{"alg":' * 800,
        b'{"alg":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ):
        issued.assert_rejected(issued.sign(use, header=text))


NOT_STRICT: Final[dict[str, Callable[[bytes], bytes]]] = {
    "with a BOM": lambda text: b"\xef\xbb\xbf" + text,
    "in UTF-16": lambda text: text.decode().encode("utf-16"),
    "in UTF-32": lambda text: text.decode().encode("utf-32"),
    "in Latin-1": lambda text: text[:-1] + b',"x":"\xe9"}',
    "with overlong UTF-8": lambda text: text[:-1] + b',"x":"\xc0\xaf"}',
    "with a surrogate in UTF-8": lambda text: text[:-1] + b',"x":"\xed\xa0\x80"}',
    "with a lone surrogate": lambda text: text[:-1] + b',"x":"\\ud800"}',
    "with a lone surrogate in a name": lambda text: text[:-1] + b',"\\udfff":1}',
    "with a trailing letter": lambda text: text + b"x",
    "with a trailing object": lambda text: text + text,
    "with a trailing NUL": lambda text: text + b"\x00",
    "with a trailing comma": lambda text: text[:-1] + b",}",
    "with a comment": lambda text: b"/**/" + text,
    "with single quotes": lambda text: text.replace(b'"', b"'"),
    "with unquoted names": lambda text: text.replace(b'"sid"', b"sid"),
    "with a line end in a string": lambda text: text[:-1] + b',"x":"a\nb"}',
    "with a bad escape": lambda text: text[:-1] + b',"x":"\\x41"}',
    "with a leading zero": lambda text: text[:-1] + b',"x":01}',
    "with a hexadecimal number": lambda text: text[:-1] + b',"x":0x1}',
    "with NaN": lambda text: text[:-1] + b',"x":NaN}',
    "with Infinity": lambda text: text[:-1] + b',"x":Infinity}',
    "with -Infinity": lambda text: text[:-1] + b',"x":-Infinity}',
    "with a number of 5000 digits": lambda text: text[:-1] + b',"x":' + b"9" * 5000 + b"}",
    "in an array": lambda text: b"[" + text + b"]",
    "in a string": lambda text: json.dumps(text.decode()).encode(),
    "nested 65 deep": lambda text: text[:-1] + b',"x":' + b"[" * 64 + b"]" * 64 + b"}",
    "nested 65 deep in objects": lambda text: text[:-1] + b',"x":' + b'{"":' * 64 + b"0" + b"}" * 64 + b"}",
    "nested 2000 deep": lambda text: text[:-1] + b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "nested 1000 deep in objects": lambda text: text[:-1] + b',"x":' + b'{"":' * 1000 + b"0" + b"}" * 1000 + b"}",
    "nested and not closed": lambda text: text[:-1] + b',"x":' + b"[" * 4000,
}


@each_row(NOT_STRICT)
def test_payload_that_is_not_strict_json_is_rejected(issued: Issued, use: Use, row: Callable[[bytes], bytes]) -> None:
    issued.assert_rejected(issued.sign(use, claims=row(compact(issued.claims(use)))))


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "sid", "jti", "iss", "aud", "type"])
def test_duplicate_claim_is_rejected(issued: Issued, use: Use, claim: str) -> None:
    text = compact(issued.claims(use))
    same = compact({claim: issued.claims(use)[claim]})[1:-1]
    issued.assert_rejected(issued.sign(use, claims=text[:-1] + b"," + same + b"}"))
    issued.assert_rejected(issued.sign(use, claims=b'{"' + claim.encode() + b'":null,' + text[1:]))


def test_duplicate_member_inside_a_claim_is_rejected(issued: Issued, use: Use) -> None:
    text = compact(issued.claims(use))
    issued.assert_rejected(issued.sign(use, claims=text[:-1] + b',"x":[{"a":1,"a":1}]}'))


def test_claim_may_be_nested_until_the_token_is_64_levels_deep(issued: Issued, use: Use) -> None:
    text = compact(issued.claims(use))[:-1] + b',"y":"' + b"[" * 100 + b'","x":' + b"[" * 63 + b"]" * 63 + b"}"
    assert issued.present(use, issued.sign(use, claims=text)).status == 200
