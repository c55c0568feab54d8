"""Generate the OpenAPI 3.1 document from endpoints, docstrings and Structs."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from flask import Flask
from werkzeug.routing import Rule

from tokenapp import config, errors
from tokenapp.config import Settings
from tokenapp.errors import TokenappError
from tokenapp.http.endpoint import described, endpoint
from tokenapp.http.openapi import headers
from tokenapp.http.problems import OAuthError, Problem

Object = dict[str, Any]

_PROBLEM_TYPE: Final = "application/problem+json"
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_PATH_VARIABLE: Final = re.compile(r"<(?:[^<>]*:)?(\w+)>")
_ANY_OF: Final = re.compile(r"'([^']+)'")
_IMPLIED_METHODS: Final = {"HEAD", "OPTIONS"}
_HEADERS_OF: Final[Mapping[type[TokenappError], str]] = {
    errors.AccessTokenMissing: "WWW-Authenticate",
    errors.AccessTokenInvalid: "WWW-Authenticate",
    errors.ReauthenticationRequired: "WWW-Authenticate",
    errors.TooManyAttempts: "Retry-After",
    errors.ServiceUnavailable: "Retry-After",
    errors.MethodNotAllowed: "Allow",
}
_EVERYWHERE: Final = (errors.NotFound, errors.MethodNotAllowed, errors.InternalError)
_DESCRIPTION: Final = """\
Sign in with a password, stay signed in with a rotating refresh token, list and revoke the sessions of an account.

Request bodies are JSON objects of at most 16 KiB; unknown fields are ignored. Every error is an
`application/problem+json` object (RFC 9457). Its `code` is one of these; their meaning does not change:

| code | status | when |
| --- | --- | --- |
{codes}

A path that is not listed here returns `not_found`, and a method that a path does not support, `method_not_allowed`.
`HEAD` is supported wherever `GET` is, and `OPTIONS` everywhere. `internal_error` is always a bug.

Requests that are not valid HTTP are rejected by the HTTP server, with its own response and without these headers.
"""


@dataclass(frozen=True, slots=True)
class _Context:
    """The settings and the schemas, which all parts of the document use."""

    settings: Settings
    schemas: Mapping[type[msgspec.Struct], Object]


def build(app: Flask, version: str) -> Object:
    """Return the document for the routes of `app`."""
    routes = sorted(_routes(app), key=lambda route: route[0].rule)
    types = sorted(_types(operation for _, operation in routes), key=lambda kind: kind.__name__)
    references, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    with app.app_context():
        context = _Context(config.current(), dict(zip(types, references, strict=True)))
    paths: dict[str, Object] = {}
    for rule, operation in routes:
        for method in sorted((rule.methods or set()) - _IMPLIED_METHODS):
            path = paths.setdefault(_PATH_VARIABLE.sub(r"{\1}", rule.rule), {})
            path[method.lower()] = _operation(app, rule, operation, context)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tokenapp", "version": version, "description": _description(routes, context)},
        "servers": [{"url": context.settings.base_path or "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": headers.components(),
            "parameters": {"X-Request-ID": _REQUEST_ID},
            "responses": {kind.__name__: _problem(kind.status, [kind], context) for kind in _EVERYWHERE[:2]},
            "securitySchemes": _security_schemes(context.settings),
        },
    }


_REQUEST_ID: Final = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "An id for the request, which the log and the response contain.",
    "schema": {"type": "string"},
}


def _routes(app: Flask) -> Iterator[tuple[Rule, endpoint]]:
    for rule in app.url_map.iter_rules():
        operation = described(app.view_functions.get(rule.endpoint))
        if operation is not None:
            yield rule, operation


def _types(operations: Iterable[endpoint]) -> set[type[msgspec.Struct]]:
    parts = (part for each in operations for part in (each.body, each.form, each.response))
    return {part for part in parts if isinstance(part, type)} | {Problem, OAuthError}


def _operation(app: Flask, rule: Rule, operation: endpoint, context: _Context) -> Object:
    view = app.view_functions[rule.endpoint]
    summary, _, description = inspect.cleandoc(view.__doc__ or "").partition("\n\n")
    described: Object = {
        "operationId": view.__name__,
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": summary.removesuffix("."),
        "parameters": [{"$ref": "#/components/parameters/X-Request-ID"}, *_parameters(rule, operation)],
        "responses": _responses(operation, context),
        "security": operation.security,
    }
    if description:
        described["description"] = description
    for kind, media_type in ((operation.body, "application/json"), (operation.form, _FORM_TYPE)):
        if kind is not None:
            content = {media_type: {"schema": context.schemas[kind]}}
            described["requestBody"] = {"required": True, "content": content}
    return described


def _parameters(rule: Rule, operation: endpoint) -> Iterator[Object]:
    for name in sorted(rule.arguments):
        if name in operation.path:
            schema: Object = {"type": "string", "pattern": operation.path[name].pattern}
        else:
            schema = {"enum": sorted(_ANY_OF.findall(rule.rule))}
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if operation.query is not None:
        (_, definition), *_ = msgspec.json.schema(operation.query)["$defs"].items()
        for name, schema in definition["properties"].items():
            described = dict(schema)
            description = described.pop("description", "")
            yield {"name": name, "in": "query", "required": False, "description": description, "schema": described}


def _responses(operation: endpoint, context: _Context) -> Object:
    success = operation.status
    responses = {str(success): _success(operation, context)}
    if operation.cacheable:
        fields = {name: each for name, each in responses[str(success)]["headers"].items() if name != "Last-Modified"}
        responses["304"] = {"description": "The version named by `If-None-Match` is current.", "headers": fields}
    by_status: dict[int, list[type[TokenappError]]] = {}
    for kind in operation.all_errors:
        by_status.setdefault(_status(kind, context), []).append(kind)
    responses |= {str(status): _problem(status, kinds, context) for status, kinds in sorted(by_status.items())}
    responses |= {str(status): _oauth_error(code, context) for status, code in operation.oauth_errors.items()}
    if errors.TooManyAttempts in operation.all_errors:
        for status, response in responses.items():
            sure = status in {str(success), str(errors.TooManyAttempts.status)}
            response["headers"] |= {name: headers.header(name, required=sure) for name in headers.RATE_LIMIT}
    return responses


def _success(operation: endpoint, context: _Context) -> Object:
    fields = headers.on_every_response(context.settings, cacheable=operation.cacheable)
    if operation.cache == "key set":
        fields["Cache-Control"] = headers.cached_as_key_set(context.settings)
    elif operation.cache:
        fields["Cache-Control"] = headers.revalidated_or_immutable()
    fields |= {name: headers.header(name) for name in operation.headers}
    if operation.cookie:
        fields["Set-Cookie"] = headers.refresh_cookie(context.settings, operation.cookie)
    if operation.response is None:
        return {"description": "Another page." if operation.redirect else "Success.", "headers": fields}
    if isinstance(operation.response, tuple):
        content: Object = {media: {} for media in operation.response}
        return {"description": "The file.", "headers": fields, "content": content}
    content = {operation.media_type: {"schema": context.schemas[operation.response]}}
    return {"description": inspect.getdoc(operation.response), "headers": fields, "content": content}


def _oauth_error(code: str, context: _Context) -> Object:
    """Return the response of an OAuth error."""
    fields = headers.on_every_response(context.settings, cacheable=False)
    if code == errors.InvalidClient.code:
        fields["WWW-Authenticate"] = headers.basic_challenge()
    schema = {"allOf": [context.schemas[OAuthError], {"properties": {"error": {"const": code}}}]}
    return {
        "description": f"- `{code}` (RFC 6749, 5.2)",
        "headers": fields,
        "content": {"application/json": {"schema": schema}},
    }


def _problem(status: int, kinds: list[type[TokenappError]], context: _Context) -> Object:
    """Return the response of a status.

    A header is required if all errors of the status have it.
    """
    fields = headers.on_every_response(context.settings, cacheable=False)
    for name in sorted({_HEADERS_OF[kind] for kind in kinds if kind in _HEADERS_OF}):
        fields[name] = headers.header(name, required=all(_HEADERS_OF.get(kind) == name for kind in kinds))
    members = {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}
    schema = {"allOf": [context.schemas[Problem], {"properties": members}]}
    examples = {kind.code: {"value": _example(kind, status)} for kind in kinds}
    return {
        "description": "\n".join(f"- `{kind.code}`: {inspect.getdoc(kind)}" for kind in kinds),
        "headers": fields,
        "content": {_PROBLEM_TYPE: {"schema": schema, "examples": examples}},
    }


def _example(kind: type[TokenappError], status: int) -> Any:
    problem = Problem(
        type=f"urn:tokenapp:error:{kind.code}",
        title=kind.title,
        status=status,
        detail=kind.message,
        code=kind.code,
        message=kind.message,
        request_id="Rk3tGmPa-4Xy9sQd",
    )
    return msgspec.to_builtins(problem)


def _status(kind: type[TokenappError], context: _Context) -> int:
    """Return the status of an error, which is a setting for one of them."""
    return context.settings.invalid_token_status if kind is errors.AccessTokenInvalid else kind.status


def _description(routes: list[tuple[Rule, endpoint]], context: _Context) -> str:
    kinds = {kind for _, operation in routes for kind in operation.all_errors}.union(_EVERYWHERE)
    rows = sorted((_status(kind, context), kind.code, inspect.getdoc(kind)) for kind in kinds)
    return _DESCRIPTION.format(codes="\n".join(f"| `{code}` | {status} | {when} |" for status, code, when in rows))


def _security_schemes(settings: Settings) -> Object:
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The `accessToken` of a sign-in or a refresh.",
        },
        "client": {
            "type": "http",
            "scheme": "basic",
            "description": "The credentials of another service, created by `flask clients create`.",
        },
        "refreshCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.cookie_name,
            "description": "The refresh token. Browsers store it and send it automatically.",
        },
    }
