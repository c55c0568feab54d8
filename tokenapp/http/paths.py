"""The converter of path variables beside which there are fixed paths."""

import re
from typing import Any

from werkzeug.routing import BaseConverter


class OtherThan(BaseConverter):
    """Matches a path segment other than the given ones.

    Without it, a fixed path such as `/passkeys/options` would also have the methods of `/passkeys/<passkey_id>`.
    """

    def __init__(self, url_map: Any, *fixed: str) -> None:
        """Exclude the segments `fixed`."""
        super().__init__(url_map)
        self.regex = rf"(?!(?:{'|'.join(map(re.escape, fixed))})\Z)[^/]+"
