"""The limit of nested JSON in request bodies, which does not depend on Python."""

import json

import pytest
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, Response
from tokenapp import nesting

ALICE = json.dumps({"username": "alice", "password": PASSWORD})
TOO_DEEP = (400, "invalid_request", "The request body is nested more than 64 levels deep.")


def login(app: Flask, more: str) -> Response:
    """Sign in with another field in the body."""
    body = f'{ALICE[:-1]},"x":{more}}}'.encode()
    return Client(app).send("POST", "/api/login", body=body, headers={"Content-Type": "application/json"})


# The brackets of one part, and how many parts fit into the object of the body, which is the first level.
PARTS = [("[", "]", 63), ('{"a":', "}", 63), ('{ "\\\\\\"[{" :', "}", 63), ('[{"a":', "}]", 31)]


@pytest.mark.parametrize(("opening", "closing", "most"), PARTS)
def test_body_may_be_nested_64_levels_deep_and_no_deeper(app: Flask, opening: str, closing: str, most: int) -> None:
    create_user(app)
    assert login(app, opening * most + "1" + closing * most).status == 200
    for number in (most + 1, most + 2, 1000):
        assert login(app, opening * number + "1" + closing * number).problem == TOO_DEEP


def test_body_that_is_not_closed_is_also_too_deep(shared_app: Flask) -> None:
    assert login(shared_app, "[" * 64).problem == TOO_DEEP


NOT_NESTED = {
    "in a string": '"' + "[{" * 1000 + '"',
    "after an escaped quote": '"\\"' + "[" * 1000 + '"',
    "after an escaped backslash": '["\\\\", "' + "[" * 1000 + '"]',
    "side by side": "[" + "[]," * 1000 + "{}]",
    "in a name": '{"' + "[" * 1000 + '":[]}',
}


@pytest.mark.parametrize("more", NOT_NESTED.values(), ids=NOT_NESTED)
def test_brackets_that_are_not_nested_do_not_count(app: Flask, more: str) -> None:
    create_user(app)
    assert login(app, more).status == 200


@pytest.mark.parametrize("part", ['"', '\\"', "\\", '"[', "[]", "\\\\"], ids=repr)
def test_time_to_count_is_linear(part: str) -> None:
    # With quadratic time this would take longer than any test may.
    assert not nesting.is_too_deep("[]" * 65 + '"\\"' + part.replace('"[', '""') * 500_000)
    assert nesting.is_too_deep("[" * 65 + part * 500_000)
