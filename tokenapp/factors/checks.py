"""Checking what a person gives for the second step of a sign-in."""

import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import orm

from tokenapp.factors.levels import Proof
from tokenapp.models import User

Method = Literal["totp", "recovery_code", "passkey"]
METHODS: Final[tuple[Method, ...]] = ("totp", "recovery_code", "passkey")


class Answer(NamedTuple):
    """What a person gives for a second step: a code, or the credential of a passkey."""

    method: Method
    code: str = ""
    credential: dict[str, Any] | None = None


class Checked(NamedTuple):
    """A right answer: what it proves, and how it is used up.

    `spend` is called in the transaction of what the answer is exchanged for. It raises `errors.InvalidCode` if the
    answer was used in the meantime, and returns the recovery codes of a factor that it confirmed as the first.
    """

    proof: Proof
    spend: Callable[[orm.Session], list[str] | None]


class Enrolment(NamedTuple):
    """A new secret: in base32, as a URI for apps, and that as a QR code in SVG."""

    id: str
    secret: str
    uri: str
    qr_svg: str


def check(user: User, answer: Answer, now: datetime) -> Checked:
    """Check an answer without using it up.

    This is where a method is added. Its module is imported only when the method is used.

    Raises:
        errors.InvalidCode: it is wrong, or the user does not have the method.
    """
    match answer.method:
        case "totp":
            from tokenapp.factors import totp  # noqa: PLC0415 -- see above

            return totp.check(user, answer.code, now)
        case "recovery_code":
            from tokenapp.factors import recovery_codes  # noqa: PLC0415 -- see above

            return recovery_codes.check(user, answer.code, now)
        case "passkey":
            from tokenapp.factors import assertions  # noqa: PLC0415 -- see above

            return assertions.check(user, answer.credential or {}, now)


def normalize(code: str) -> str:
    """Return a code in capital letters, without spaces, hyphens and the like.

    Digits of other scripts, such as full-width and Arabic ones, become ASCII digits.
    """
    kept = (char for char in unicodedata.normalize("NFKC", code) if unicodedata.category(char)[0] not in "ZC")
    return "".join(str(unicodedata.decimal(char, char)) for char in kept if char != "-").upper()
