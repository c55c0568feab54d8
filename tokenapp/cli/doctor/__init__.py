"""``flask doctor``: problems of an installation, and how to fix them."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import click
from flask.cli import with_appcontext

from tokenapp import config
from tokenapp.cli import output
from tokenapp.cli.command import Command
from tokenapp.cli.doctor import database, files, mail, servers, settings, stored
from tokenapp.cli.doctor.finding import Finding

_EXIT_CODES: Final = {"error": 2, "warning": 1, "note": 0}


@click.command("doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_appcontext
def doctor(*, as_json: bool) -> None:
    """Check settings, database, keys, clock and files; print a line per problem.

    The exit code is 0 if there are no problems (notes are none), 1 if there are warnings, and 2 if there are errors.
    """
    findings = list(_examine())
    code = max((_EXIT_CODES[each.severity] for each in findings), default=0)
    if as_json:
        output.show_list(findings, (), as_json=True)
    else:
        for each in findings:
            click.echo(f"{each.severity}: {each.subject}: {each.problem}; {each.breaks}. Fix: {each.fix}.")
        if code == 0:
            click.echo("No problems found.")
    sys.exit(code)


def _examine() -> Iterator[Finding]:
    now = datetime.now(UTC)
    for check in (*settings.CHECKS, *files.CHECKS, *servers.CHECKS, *mail.CHECKS):
        yield from check(config.current(), now)
    unusable = [*database.check_state(config.current(), now)]
    yield from unusable
    if not any(each.severity == "error" for each in unusable):
        for check in (*database.CHECKS, *stored.CHECKS, *mail.STORED_CHECKS):
            yield from check(config.current(), now)
