"""Parameters of commands, passwords and confirmations."""

import codecs
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import click

from tokenapp import errors
from tokenapp.passwords import policy

Command = TypeVar("Command", bound=Callable[..., Any])
MAX_PASSWORD_LINE: Final = 16 * 1024
_AGE: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST_AGE: Final = timedelta(days=3660)


def is_storable(text: str) -> bool:
    """Return whether a database can store `text`."""
    # Python decodes bytes that are not UTF-8 into lone surrogates.
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


class Text(click.ParamType[str]):
    """A name or an id that can be a parameter of a database query."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that the value is text."""
        return value if is_storable(value) else self.fail("This is not valid text.", param, ctx)


class Age(click.ParamType[timedelta]):
    """A duration such as 12h or 30d."""

    name = "age"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse a whole number and a unit."""
        if isinstance(value, timedelta):
            return value
        match = _AGE.fullmatch(value)
        age = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
        if age is None or age > _LONGEST_AGE:
            self.fail("It must be a number and a unit, such as 90s, 15m, 12h or 30d, up to 3660d.", param, ctx)
        return age


def limit_option(text: str) -> Callable[[Command], Command]:
    """Return the option for the length of a list, with this help."""
    return click.option("--limit", type=click.IntRange(1, 1_000_000), metavar="NUMBER", help=text)


def read_password(username: str) -> str:
    """Read a new password from a prompt, or from the first line of a piped stdin.

    The prompt asks again until the password is strong enough.

    Raises:
        click.ClickException: the password is missing or not text.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        password: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt=True, err=True, value_proc=partial(_strong, username)
        )
    else:
        password = _first_line()
    if not is_storable(password):
        raise click.ClickException("The password contains a NUL character or is not valid UTF-8.")
    return password


def _strong(username: str, password: str) -> str:
    """Return `password`; if it is weak, the prompt says why and asks again."""
    if is_storable(password):
        try:
            policy.check(password, username)
        except errors.PasswordRejected as error:
            raise click.UsageError(error.detail) from None
    return password


def _first_line() -> str:
    line = sys.stdin.buffer.readline(MAX_PASSWORD_LINE) if sys.stdin is not None else b""
    line = line.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise click.ClickException("No password on standard input.")
    return line.decode("utf-8", "surrogateescape")


def confirm(question: str, *, yes: bool) -> None:
    """Ask `question`, unless `yes` answers it.

    Raises:
        click.ClickException: the answer is no, or there is no answer.
    """
    try:
        confirmed = yes or click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # end the line of the question
        confirmed = False
    if not confirmed:
        raise click.ClickException("Nothing was changed. Answer yes, or give --yes.")
