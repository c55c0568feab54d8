"""Base classes of the commands: errors are one line on stderr and an exit code."""

import errno
import io
import os
import sys
from typing import Any

import click
import psycopg
from flask.cli import AppGroup

from tokenapp import audit, config, db, errors


class Interrupted(click.ClickException):
    """The operator interrupted the command."""

    exit_code = 130  # what shells report for a program that SIGINT ended


class Command(click.Command):
    """A command whose errors are printed in one line, without a traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. A name that begins with a dash needs no ``--`` before it.

        What is no option becomes an argument, if the command has one left.
        """
        if sys.stdin is None:  # closed by the shell
            sys.stdin = io.TextIOWrapper(io.BytesIO())
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            ctx.ignore_unknown_options = True
            try:
                return super().parse_args(ctx, list(args))
            except click.UsageError:
                raise error from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and convert every error that is not a bug to one line."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for names that the output's encoding lacks
        operator = os.environ.get("SUDO_USER") or os.environ.get("USER")
        audit.actor.set(lambda: audit.Actor(operator=operator and operator[:64]))
        try:
            return super().invoke(ctx)
        except config.ConfigError as error:
            sys.exit(str(error))
        except errors.TokenappError as error:
            raise click.ClickException(error.detail) from None
        except (KeyboardInterrupt, click.Abort):
            raise Interrupted("interrupted") from None
        except Exception as error:
            message = describe(error)
            if message is None:
                raise
            raise click.ClickException(message) from None


class Group(AppGroup):
    """A group of such commands."""

    command_class = Command


def describe(error: Exception) -> str | None:
    """Return the message for `error`; None for a bug, and for a closed output."""
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return f"{error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}"
    if not db.is_fault(error):
        return None
    # The driver's message names the server. Unlike the statement, it contains no values and no password.
    cause = getattr(error, "orig", None) or error
    message = str(cause).strip().partition("\n")[0]
    missing = isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
    if missing or message.startswith(("no such table", "no such column")):
        return f"the database is not migrated ({message}): run `flask db upgrade`"
    return f"the database is unavailable or rejected the query: {message}"
