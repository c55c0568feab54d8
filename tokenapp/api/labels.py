"""Names that people give to their passkeys and access keys."""

from typing import Final

import msgspec

MAX_LABEL: Final = 64
# Control characters, and what changes the direction of the text around a name.
_HIDDEN: Final = r"\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_BLANK: Final = r"\s\u200b-\u200d\u2060\ufeff"


def label(description: str, example: str, *, may_be_blank: bool = False) -> msgspec.Meta:
    """Return the constraints of a name of at most 64 characters that others read."""
    blank = "| *" if may_be_blank else ""
    return msgspec.Meta(
        max_length=MAX_LABEL,
        pattern=rf"^(?:[^{_HIDDEN}]*[^{_HIDDEN}{_BLANK}][^{_HIDDEN}]*{blank})$(?!\n)",
        description=description,
        examples=[example],
    )
