"""Sessions are revoked in one place, for reasons that operators can explain."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import tokenapp
from tokenapp import sessions

PACKAGE = Path(tokenapp.__file__).parent
COLUMNS = {"revoked_at", "revoked_reason"}


def test_every_reason_has_its_sentence() -> None:
    assert list(sessions.REASONS) == list(get_args(sessions.Reason))


def writes(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that write a column of a revocation.

    They do so by a keyword argument, an attribute, a dictionary key, or SQL.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="values" | "Session") | ast.Name(id="Session" | "dict")):
                yield from (each.value.lineno for each in node.keywords if each.arg in COLUMNS)
            case ast.Attribute(attr=name, ctx=ast.Store()) if name in COLUMNS:
                yield node.lineno
            case ast.Dict():
                yield from (key.lineno for key in node.keys if key is not None and _names_column(key))
            case ast.Constant(value=str(text)) if "UPDATE sessions" in text:
                yield node.lineno


def _names_column(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=name) | ast.Attribute(attr=name):
            return name in COLUMNS
    return False


@pytest.mark.parametrize(
    "source",
    [
        "sa.update(Session).values(revoked_at=now)",
        "Session(id=sid, revoked_reason=None)",
        "row.revoked_at = now",
        "values = {'revoked_at': now}",
        "values = {Session.revoked_at: now}",
        "text('UPDATE sessions SET revoked_at = now()')",
    ],
)
def test_every_kind_of_write_is_found(source: str) -> None:
    assert list(writes(ast.parse(source))) == [1]


def test_only_the_revocation_module_and_one_migration_write_revocations() -> None:
    writers = {
        str(path.relative_to(PACKAGE)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := list(writes(ast.parse(path.read_text()))))
    }
    others = {"access_keys/lifecycle.py", "sessions/revoked_ids.py"}  # they revoke access keys and roles
    found = sorted(writers.keys() - others)
    assert found == ["migrations/versions/0005_last_seen_and_rights.py", "sessions/revocation.py"], writers
