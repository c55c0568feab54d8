"""What ``flask doctor`` reports."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Literal

import msgspec

from tokenapp.config import Settings

Severity = Literal["error", "warning", "note"]


class Finding(msgspec.Struct, rename="camel"):
    """A problem: how severe it is, where it is, what it breaks and how to fix it."""

    severity: Severity
    subject: str
    problem: str
    breaks: str
    fix: str = msgspec.field(name="mend")


Check = Callable[[Settings, datetime], Iterator[Finding]]
