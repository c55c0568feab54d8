"""Compare responses with the OpenAPI document."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flask import Flask
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from tests.support.client import Client, Response

Object = dict[str, Any]
# A documented response: method, path, status, and the code of a problem.
Documented = tuple[str, str, int, str]

_PROBLEM: Final = "application/problem+json"
_HTTP_HEADERS: Final = {"Content-Type", "Content-Length", "Date"}


def document_of(app: Flask) -> Object:
    """Return the OpenAPI document of `app`."""
    response = Client(app).send("GET", "/openapi.json")
    assert response.status == 200
    document: Object = response.json
    return document


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Object]]:
    """Return the method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def documented_responses(document: Mapping[str, Any]) -> Iterator[Documented]:
    """Return all responses of the document."""
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            for code in _codes(response):
                yield method, path, int(status), code


def check(document: Mapping[str, Any], method: str, target: str, response: Response) -> Documented:
    """Check that the document has this response; return which one it is."""
    paths = sorted(document["paths"], key=lambda path: "{" in path)  # an exact path comes before a pattern
    path = next(path for path in paths if _pattern(path).fullmatch(target.partition("?")[0]))
    responses = document["paths"][path][method.lower()]["responses"]
    assert str(response.status) in responses, f"{method} {target}: {response.status} {response.text}"
    check_response(document, responses[str(response.status)], response)
    return method, path, response.status, response.code if _media_type(response) == _PROBLEM else ""


def check_response(document: Mapping[str, Any], described: Mapping[str, Any], response: Response) -> None:
    """Check that the headers and the body of `response` are as described."""
    headers = {name: _resolved(document, each) for name, each in described["headers"].items()}
    assert {name for name, _ in response.headers} - _HTTP_HEADERS <= {*headers}
    for name, header in headers.items():
        assert response.all(name) or not header["required"], f"{name} is missing: {response.text}"
        is_number = header["schema"].get("type") == "integer"
        for value in response.all(name):
            OAS31Validator(header["schema"]).validate(int(value) if is_number else value)
    content = described.get("content", {})
    assert bool(response.body) == bool(content)
    if content:
        media_type = _media_type(response)
        assert media_type in content
        if "schema" in content[media_type]:
            schema = {"allOf": [content[media_type]["schema"]], "components": document["components"]}
            schema["unevaluatedProperties"] = False
            OAS31Validator(schema, format_checker=oas31_format_checker).validate(response.json)


def _media_type(response: Response) -> str:
    return (response.header("Content-Type") or "").partition(";")[0]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))


def _codes(response: Mapping[str, Any]) -> list[str]:
    problem = response.get("content", {}).get(_PROBLEM)
    return [""] if problem is None else [*problem["examples"]]


def _resolved(document: Mapping[str, Any], header: Mapping[str, Any]) -> Any:
    return document["components"]["headers"][header["$ref"].rpartition("/")[2]] if "$ref" in header else header
