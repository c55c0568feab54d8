"""What operators type: names and ids, lengths of time, and passwords, which never come from the command line."""

import re
import sys
from datetime import timedelta
from typing import Final

import click

MAX_PASSWORD_LINE: Final = 16 * 1024
_AGE: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST_AGE: Final = timedelta(days=3660)


def is_storable(text: str) -> bool:
    """Whether a database can hold `text`: no NUL, and no lone surrogates, which undecodable bytes turn into."""
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


class Text(click.ParamType[str]):
    """A name or an id that a database can be asked for."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is not text."""
        return value if is_storable(value) else self.fail("This is not valid text.", param, ctx)


class Age(click.ParamType[timedelta]):
    """A length of time such as 12h or 30d."""

    name = "age"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read a whole number and a unit."""
        if isinstance(value, timedelta):
            return value
        match = _AGE.fullmatch(value)
        age = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
        if age is None or age > _LONGEST_AGE:
            self.fail("A length of time is a number and a unit, such as 90s, 15m, 12h or 30d, up to 3660d.", param, ctx)
        return age


def read_password() -> str:
    """Ask for a new password, twice and unseen, or take the first line of stdin where nobody can be asked.

    Raises:
        click.ClickException: there is none, or it is not text.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)
    else:
        password = _first_line()
    if not is_storable(password):
        raise click.ClickException("The password holds a NUL character or is not valid UTF-8.")
    return password


def _first_line() -> str:
    line = sys.stdin.buffer.readline(MAX_PASSWORD_LINE) if sys.stdin is not None else b""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise click.ClickException("There is no password on standard input.")
    return line.decode("utf-8", "surrogateescape")


def confirm(question: str, *, yes: bool) -> None:
    """Ask `question` unless the answer was given beforehand.

    Raises:
        click.ClickException: the answer is no, or there is nobody to give one.
    """
    try:
        agreed = yes or click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question's line has no end yet
        agreed = False
    if not agreed:
        raise click.ClickException("Nothing was done: answer yes, or give --yes.")
