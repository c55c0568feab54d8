"""The limit of the nesting of JSON.

Without it, the recursion limit of the interpreter decides, which differs between versions of Python.
"""

import re
from typing import Final

MAX_DEPTH: Final = 64
# A string, possibly not closed, or a bracket outside of strings. It never backtracks.
_PARTS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def is_too_deep(text: str) -> bool:
    """Return whether arrays and objects in `text` are nested too deep."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = 0
    for part in _PARTS.findall(text):
        if part in {"[", "{"}:
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif part in {"]", "}"}:
            depth -= 1
    return False
