"""Commands whose standard input is closed."""

import sys
from typing import BinaryIO

import click
import pytest

from tokenapp.cli.command import Command


def test_closed_standard_input_is_read_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    contents: list[bytes] = []

    def read(file: BinaryIO) -> None:
        contents.append(file.read())

    command = Command("read", params=[click.Argument(["file"], type=click.File("rb"))], callback=read)
    command.main(["-"], standalone_mode=False)
    assert contents == [b""]
    sys.stdin.close()
