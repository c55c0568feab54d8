"""ZERO WIDTH JOINER and NON-JOINER: where they change how a word is written.

Persian, Urdu and the languages of India are not written correctly without them. Elsewhere they are invisible.
"""

import re
import unicodedata
from typing import Final

_NON_JOINER, _JOINER = "\u200c", "\u200d"
_VIRAMA: Final = 9  # a canonical combining class
_TRANSPARENT: Final = ("Mn", "Me")
_ADLAM_NASALIZATION: Final = "\U0001e94b"  # the only letter that is transparent
# The property Joining_Type of Unicode 17, of the scripts that people write today: Arabic, Syriac, N'Ko, Mandaic,
# Mongolian, Phags-pa, Hanifi Rohingya and Adlam.
_DUAL: Final = (
    "\u0620\u0626\u0628\u062a-\u062e\u0633-\u063f\u0641-\u0647\u0649\u064a\u066e\u066f\u0678-\u0687\u069a-\u06bf\u06c1\u06c2"
    "\u06cc\u06ce\u06d0\u06d1\u06fa-\u06fc\u06ff\u0712-\u0714\u071a-\u071d\u071f-\u0727\u0729\u072b\u072d\u072e\u074e-\u0758"
    "\u075c-\u076a\u076d-\u0770\u0772\u0775-\u0777\u077a-\u077f\u07ca-\u07ea\u0841-\u0845\u0848\u084a-\u0853\u0855\u0860"
    "\u0862-\u0865\u0868\u0886\u0889-\u088d\u088f\u08a0-\u08a9\u08af\u08b0\u08b3-\u08b8\u08ba-\u08c8\u1807\u1820-\u1878"
    "\u1887-\u18a8\u18aa\ua840-\ua871\U00010d01-\U00010d21\U00010d23\U0001e900-\U0001e943"
)
_RIGHT: Final = (
    "\u0622-\u0625\u0627\u0629\u062f-\u0632\u0648\u0671-\u0673\u0675-\u0677\u0688-\u0699\u06c0\u06c3-\u06cb\u06cd\u06cf\u06d2"
    "\u06d3\u06d5\u06ee\u06ef\u0710\u0715-\u0719\u071e\u0728\u072a\u072c\u072f\u074d\u0759-\u075b\u076b\u076c\u0771\u0773"
    "\u0774\u0778\u0779\u0840\u0846\u0847\u0849\u0854\u0856-\u0858\u0867\u0869\u086a\u0870-\u0882\u088e\u08aa-\u08ac\u08ae"
    "\u08b1\u08b2\u08b9\U00010d22"
)
_LEFT: Final = "\ua872\U00010d00"
_JOINS_NEXT: Final = re.compile(f"[{_DUAL}{_LEFT}]")
_JOINS_PREVIOUS: Final = re.compile(f"[{_DUAL}{_RIGHT}]")


def is_joiner_in_context(text: str, place: int) -> bool:
    """Return whether a joiner at `place` has an effect (RFC 5892, A.1 and A.2)."""
    if text[place] not in {_NON_JOINER, _JOINER}:
        return False
    if place and unicodedata.combining(text[place - 1]) == _VIRAMA:
        return True
    before = next((char for char in reversed(text[:place]) if not _is_transparent(char)), "")
    after = next((char for char in text[place + 1 :] if not _is_transparent(char)), "")
    joined = _JOINS_NEXT.match(before) and _JOINS_PREVIOUS.match(after)
    return text[place] == _NON_JOINER and bool(joined)


def _is_transparent(char: str) -> bool:
    return unicodedata.category(char) in _TRANSPARENT or char == _ADLAM_NASALIZATION
