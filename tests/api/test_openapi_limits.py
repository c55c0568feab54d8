"""The limits that the OpenAPI document states are those that the routes enforce."""

import re
from collections.abc import Iterator
from typing import Final

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.client import Response, sign_in
from tests.support.documented import Object, document_of, operations

CHARACTERS: Final = ("x", "é", "\U0001f600")


@pytest.fixture
def app(databases: Databases) -> Flask:
    """Return the application on SQLite: limits do not depend on the database."""
    return make_app(databases("sqlite"))


def text_fields(app: Flask) -> Iterator[tuple[str, str, Object, str]]:
    """Return the fields of JSON bodies that have a greatest length.

    Each is a method, a path, the schema of the body and the name of the field.
    """
    document = document_of(app)
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            yield from (
                (method, path, schema, name) for name, each in schema["properties"].items() if "maxLength" in each
            )


def send(app: Flask, number: int, request: tuple[str, str, Object, str], value: str) -> Response:
    """Send a value for one field, as a new user."""
    method, path, schema, field = request
    username = f"user{number}{len(value)}"
    create_user(app, username)
    others = {name: example_of(each) for name, each in schema["properties"].items() if name != field}
    payload = {field: value} | others  # so that it is checked first
    return sign_in(app, username).call(method, path.format(factor_id="unknown", passkey_id="unknown"), payload=payload)


def example_of(schema: Object) -> object:
    """Return a value of the type that a schema describes."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return None
    return "x" if schema.get("type") == "string" else {}


@pytest.mark.parametrize("character", CHARACTERS)
def test_documented_length_is_accepted_and_one_more_character_rejected(app: Flask, character: str) -> None:
    seen = set()
    for number, request in enumerate(text_fields(app)):
        method, path, schema, field = request
        longest = schema["properties"][field]["maxLength"]
        response = send(app, number, request, character * longest)
        assert f"$.{field}" not in response.text
        response = send(app, number, request, character * (longest + 1))
        assert (response.status, response.code) == (400, "invalid_request"), request
        assert field in response.json["message"]
        seen.add((method, path, field))
    assert seen >= {
        ("POST", "/api/login", "username"),
        ("POST", "/api/login", "password"),
        ("PUT", "/api/me/password", "currentPassword"),
        ("POST", "/api/reauthenticate", "password"),
    }


def test_text_with_a_nul_violates_the_documented_pattern(app: Flask) -> None:
    for number, request in enumerate(text_fields(app)):
        _, _, schema, field = request
        assert re.fullmatch(schema["properties"][field]["pattern"], "x")
        assert not re.fullmatch(schema["properties"][field]["pattern"], "x\x00")
        response = send(app, number, request, "x\x00")
        assert (response.status, response.code) == (400, "invalid_request")


def test_number_is_accepted_within_the_documented_limits_only(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    seen = set()
    for method, path, operation in operations(document_of(app)):
        for parameter in operation["parameters"]:
            schema = parameter.get("schema", {})
            if schema.get("type") != "integer":
                continue
            name, least, greatest = parameter["name"], schema["minimum"], schema["maximum"]
            for value in (least, greatest):
                assert client.call(method, f"{path}?{name}={value}").status == 200
            for value in (least - 1, greatest + 1):
                assert client.call(method, f"{path}?{name}={value}").code == "invalid_request"
            seen.add((path, name))
    assert seen >= {("/api/sessions", "limit")}
