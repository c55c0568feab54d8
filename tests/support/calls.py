"""Count the function calls of a request."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

from flask import Flask
from werkzeug.test import EnvironBuilder

import tokenapp

_PACKAGE: Final = str(Path(tokenapp.__file__).parent)


@dataclass
class Calls:
    """The calls of one request in its own thread.

    `total` counts functions of Python and C; `files` has the file of each call of a function of tokenapp.
    """

    status: str = ""
    total: int = 0
    files: list[str] = field(default_factory=list)

    @property
    def moves(self) -> int:
        """The number of times that control passes from one file of tokenapp to another."""
        return len(self.files[:1]) + sum(one != other for one, other in pairwise(self.files))


def count_calls(app: Flask, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Calls:
    """Send a request to `app` and return the calls that it makes."""
    environ = EnvironBuilder(path, method=method, headers=[*headers.items()], data=body).get_environ()
    calls = Calls()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        calls.total += event in {"call", "c_call"}
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            calls.files.append(frame.f_code.co_filename.removeprefix(f"{_PACKAGE}/"))

    def start_response(status: str, *_: Any) -> Callable[[bytes], object]:
        calls.status = status
        return lambda _data: None

    profiler = sys.getprofile()
    sys.setprofile(note)
    try:
        b"".join(app.wsgi_app(environ, start_response))
    finally:
        sys.setprofile(profiler)
    return calls
