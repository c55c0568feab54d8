"""The encoding of a token: three segments in strict base64url."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import jwt
import pytest

from tests.support.forge import BAD_ACCESS, Issued, Use, b64, changed, compact, unb64
from tests.tokens.conftest import each_row
from tokenapp.tokens import verification

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
    "a dot before": lambda part: "." + ".".join(part),
    "a dot after": lambda part: ".".join(part) + ".",
    "parts in another order": lambda part: f"{part[1]}.{part[0]}.{part[2]}",
    "twice": lambda part: ".".join(part) * 2,
    "too long": lambda part: ".".join(part) + "A" * 8192,
    "letters only, too many": lambda _part: "A" * 9000,
    "Bearer repeated": lambda part: "Bearer." + ".".join(part),
    "null": lambda _part: "null",
    "undefined": lambda _part: "undefined",
    "true": lambda _part: "true",
    "zero": lambda _part: "0",
    "not ASCII": lambda part: ".".join(part) + "é",
    "not Latin-1": lambda part: "я" + ".".join(part),
    "full-width letters": lambda part: ".".join([part[0], part[1], "\uff21" + part[2][1:]]),
    "percent encoding": lambda part: ".".join(part).replace(".", "%2E"),
}


@each_row(SHAPES)
def test_anything_but_three_segments_is_rejected(issued: Issued, use: Use, row: Callable[[list[str]], str]) -> None:
    issued.assert_rejected(row(issued.good[use].split(".")))


def test_token_of_8192_bytes_is_accepted_and_a_longer_one_rejected(issued: Issued, use: Use) -> None:
    sized = {len(token): token for token in (issued.with_claims(use, x="y" * size) for size in range(5500, 5900))}
    longest = max(size for size in sized if size <= verification.MAX_TOKEN_BYTES)
    assert verification.MAX_TOKEN_BYTES - longest <= 1
    assert issued.present(use, sized[longest]).status == 200
    issued.assert_rejected(sized[min(size for size in sized if size > verification.MAX_TOKEN_BYTES)])


def test_text_that_no_cookie_can_contain_is_a_missing_cookie_and_a_bad_bearer_token(issued: Issued, use: Use) -> None:
    parts = issued.good[use].split(".")
    json_form = compact(dict(zip(("protected", "payload", "signature"), parts, strict=True))).decode()
    for text in (json_form, "[object Object]", '.".'.join(parts), ".".join(parts) + " x"):
        assert issued.protected(text).problem == BAD_ACCESS
        assert issued.refresh(text).problem == (401, "refresh_token_missing", "Refresh token not found.")


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\xa0", "\u2028", "\x00"], ids=repr)
def test_white_space_in_a_token_is_rejected(issued: Issued, use: Use, blank: str) -> None:
    parts = issued.good[use].split(".")
    with issued.app.app_context():
        for place in range(3):
            for changed_part in (
                blank + parts[place],
                parts[place] + blank,
                parts[place][:4] + blank + parts[place][4:],
            ):
                token = ".".join([*parts[:place], changed_part, *parts[place + 1 :]])
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify(token, now=datetime.now(UTC))


@pytest.mark.parametrize("extra", [b" ", b"\n", b"\r\n", b"\t", b"=", b"==", b"!", b"\x00", b"\xa0", b"%3D"], ids=repr)
def test_signed_characters_that_a_lax_decoder_skips_are_rejected(issued: Issued, use: Use, extra: bytes) -> None:
    header, payload = (part.encode() for part in issued.good[use].split(".")[:2])
    with issued.app.app_context():
        for message in (
            header + extra + b"." + payload,
            header + b"." + payload + extra,
            header + b"." + extra + payload,
        ):
            with pytest.raises(jwt.InvalidTokenError):
                verification.verify(issued.sign_raw(use, message), now=datetime.now(UTC))


@pytest.mark.parametrize("padding", ["=", "==", "===", "===="])
def test_padding_is_rejected(issued: Issued, use: Use, padding: str) -> None:
    parts = issued.good[use].split(".")
    for place in range(3):
        issued.assert_rejected(".".join([*parts[:place], parts[place] + padding, *parts[place + 1 :]]))


def test_standard_base64_alphabet_is_rejected(issued: Issued, use: Use) -> None:
    header = b64(compact(issued.header(use)))
    claims = compact(changed(issued.claims(use), x="???>>>~~~" * 3))
    standard = base64.b64encode(claims).rstrip(b"=")
    assert b"+" in standard
    assert b"/" in standard
    issued.assert_rejected(issued.sign_raw(use, header + b"." + standard))
    mixed = b64(claims).replace(b"_", b"/", 1)
    issued.assert_rejected(issued.sign_raw(use, header + b"." + mixed))


def equivalent_segments(segment: str) -> Iterator[str]:
    """Yield the segments that a lax decoder decodes to the same bytes.

    They differ in the unused bits of their last letter.
    """
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    decoded = unb64(segment)
    for letter in alphabet:
        if letter != segment[-1] and len(segment) % 4 and unb64(segment[:-1] + letter) == decoded:
            yield segment[:-1] + letter


def test_signature_has_one_encoding(issued: Issued, use: Use) -> None:
    *signed, signature = issued.good[use].split(".")
    equivalent = list(equivalent_segments(signature))
    assert len(equivalent) == (15 if issued.keys[use].alg == "ES256" else 3)
    for segment in equivalent:
        issued.assert_rejected(".".join([*signed, segment]))


def test_signed_payload_has_one_encoding(issued: Issued, use: Use) -> None:
    tried = 0
    for pad in ("", "x", "xx"):
        header, payload, _ = issued.with_claims(use, x=pad).split(".")
        for segment in equivalent_segments(payload):
            issued.assert_rejected(issued.sign_raw(use, f"{header}.{segment}".encode()))
            tried += 1
    assert tried == 15 + 3


# Modifications of a valid token.


def test_every_truncation_is_rejected(issued: Issued, use: Use) -> None:
    token = issued.good[use]
    with issued.app.app_context():
        assert verification.verify(token, now=datetime.now(UTC))
        for cut in range(len(token)):
            for piece in (token[:cut], token[cut + 1 :]):
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify(piece, now=datetime.now(UTC))


def test_every_changed_character_is_rejected(issued: Issued, use: Use) -> None:
    token = issued.good[use]
    with issued.app.app_context():
        for place, letter in enumerate(token):
            for flipped in {"A" if letter != "A" else "B", chr(ord(letter) ^ 1), "." if letter != "." else "A"}:
                with pytest.raises(jwt.InvalidTokenError):
                    verification.verify(token[:place] + flipped + token[place + 1 :], now=datetime.now(UTC))


def test_modified_tokens_get_the_same_error_over_http(issued: Issued, use: Use) -> None:
    token = issued.good[use]
    for place in range(1, len(token), 29):
        issued.assert_rejected(token[:place])
        issued.assert_rejected(token[:place] + chr(ord(token[place]) ^ 1) + token[place + 1 :])


def test_signature_of_one_token_does_not_fit_another(issued: Issued, use: Use) -> None:
    one, two = (issued.with_claims(use, jti=name).split(".") for name in ("one", "two"))
    issued.assert_rejected(".".join([*one[:2], two[2]]))
