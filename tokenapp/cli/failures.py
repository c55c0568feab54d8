"""How commands fail: one clear line on stderr and an exit code that is not zero, never a traceback."""

import errno
import io
import os
import sys
from typing import Any

import click
import psycopg
from flask.cli import AppGroup

from tokenapp import audit, db, errors


class Interrupted(click.ClickException):
    """The operator stopped the command."""

    exit_code = 130  # what shells report for a program that SIGINT ended


class Command(click.Command):
    """A command whose failures are told in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what is no bug of ours into a line for the operator."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a name must not fail for want of a letter
        operator = os.environ.get("SUDO_USER") or os.environ.get("USER")
        audit.actor.set(lambda: audit.Actor(operator=operator and operator[:64]))
        try:
            return super().invoke(ctx)
        except errors.TokenappError as refusal:
            raise click.ClickException(refusal.detail) from None
        except (KeyboardInterrupt, click.Abort):
            raise Interrupted("interrupted") from None
        except Exception as error:
            sentence = _explain(error)
            if sentence is None:
                raise
            raise click.ClickException(sentence) from None


class Group(AppGroup):
    """A group of such commands."""

    command_class = Command


def _explain(error: Exception) -> str | None:
    """Say in a sentence what went wrong; None for a bug, and for a reader of our output that went away."""
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        return f"{error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}"
    if not db.is_fault(error):
        return None
    # The driver's own words and never the statement's: they name the server, and hold no values and no password.
    cause = getattr(error, "orig", None) or error
    words = str(cause).strip().partition("\n")[0]
    missing = isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
    if missing or words.startswith(("no such table", "no such column")):
        return f"the database is not migrated ({words}): run `flask db upgrade`"
    return f"the database cannot be reached or cannot do this: {words}"
