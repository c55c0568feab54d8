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
from tokenapp.http.openapi import headers, problems

Object = dict[str, Any]

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_PATH_VARIABLE: Final = re.compile(r"<(?:[^<>]*:)?(\w+)>")
_ANY_OF: Final = re.compile(r"'([^']+)'")
_IMPLIED_METHODS: Final = {"HEAD", "OPTIONS"}
_EVERYWHERE: Final = (errors.NotFound, errors.MethodNotAllowed, errors.InternalError)
_DESCRIPTION: Final = """\
Sign in with a password, stay signed in with a rotating refresh token, list and revoke the sessions of an account.

Request bodies are JSON objects of at most 16 KiB; unknown fields are ignored. Every error is an
`application/problem+json` object (RFC 9457). Its `code` is one of these; their meaning does not change:

| code | status | when |
| --- | --- | --- |
{codes}

A path that is not listed here returns `not_found`, and a method that a path does not support, `method_not_allowed`.
`HEAD` is supported wherever `GET` is, and `OPTIONS` everywhere except at `/api/verify`, which checks requests of any
method. `internal_error` is always a bug.

Requests that are not valid HTTP are rejected by the HTTP server, with its own response and without these headers.
"""


@dataclass(frozen=True, slots=True)
class _Context:
    """The settings and the schemas, which all parts of the document use."""

    settings: Settings
    schemas: Mapping[type[msgspec.Struct], Object]


def build(app: Flask, version: str) -> Object:
    """Return the document for the routes of `app`, in the order of the routes."""
    routes = [*_routes(app)]
    types = sorted(_types(operation for _, operation in routes), key=lambda kind: kind.__name__)
    references, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for kind in types:
        if any_required := getattr(kind, "ANY_REQUIRED", ()):
            schemas[kind.__name__]["anyOf"] = [{"required": [name]} for name in any_required]
    with app.app_context():
        context = _Context(config.current(), dict(zip(types, references, strict=True)))
    kinds = {kind for _, operation in routes for kind in operation.all_errors}.union(_EVERYWHERE)
    oauth = {code for _, operation in routes for code in operation.oauth_errors.values()}
    schemas |= problems.schemas(kinds, oauth, context.settings)
    paths: dict[str, Object] = {}
    for rule, operation in routes:
        for method in sorted((rule.methods or set()) - _IMPLIED_METHODS):
            path = paths.setdefault(_PATH_VARIABLE.sub(r"{\1}", rule.rule), {})
            path[method.lower()] = _operation(app, rule, operation, context)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tokenapp", "version": version, "description": _description(kinds, context)},
        "servers": [{"url": context.settings.base_path or "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(rule) for rule, _ in routes)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": headers.components(),
            "parameters": {"X-Request-ID": _REQUEST_ID},
            "responses": {
                kind.__name__: problems.response(kind.status, [kind], context.settings) for kind in _EVERYWHERE[:2]
            },
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


def _tag(rule: Rule) -> str:
    return str(rule.endpoint).partition(".")[0]


def _types(operations: Iterable[endpoint]) -> set[type[msgspec.Struct]]:
    parts = (part for each in operations for part in (each.body, each.form, each.response))
    return {part for part in parts if isinstance(part, type)}


def _operation(app: Flask, rule: Rule, operation: endpoint, context: _Context) -> Object:
    view = app.view_functions[rule.endpoint]
    summary, _, description = inspect.cleandoc(view.__doc__ or "").partition("\n\n")
    described: Object = {
        "operationId": view.__name__,
        "tags": [_tag(rule)],
        "summary": summary.removesuffix("."),
        "parameters": [{"$ref": "#/components/parameters/X-Request-ID"}, *_parameters(rule, operation)],
        "responses": _responses(operation, context),
        "security": operation.security,
    }
    if description:
        described["description"] = description
    for kind, media_type in ((operation.body, "application/json"), (operation.form, _FORM_TYPE)):
        if kind is not None:
            content = {media_type: {"schema": context.schemas[kind], "example": _example_of(kind)}}
            described["requestBody"] = {"required": True, "content": content}
    return described


def _example_of(kind: type[msgspec.Struct]) -> Object:
    """Return a body with the required fields, for pages that send requests."""
    (definition,) = (each for each in msgspec.json.schema(kind)["$defs"].values() if each["title"] == kind.__name__)
    fields = definition["properties"]
    required = (*definition.get("required", ()), *getattr(kind, "ANY_REQUIRED", ())[:1])
    return {name: fields[name]["examples"][0] for name in required if "examples" in fields[name]}


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
        by_status.setdefault(problems.status_of(kind, context.settings), []).append(kind)
    settings = context.settings
    responses |= {
        str(status): problems.response(status, kinds, settings) for status, kinds in sorted(by_status.items())
    }
    responses |= {
        str(status): problems.oauth_response(code, settings) for status, code in operation.oauth_errors.items()
    }
    if operation.rate_limited:
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
        if operation.cookie == "set" and context.settings.device_binding != "off":
            fields["Secure-Session-Registration"] = headers.header("Secure-Session-Registration", required=False)
    if operation.response is None:
        return {"description": "Another page." if operation.redirect else "Success.", "headers": fields}
    if isinstance(operation.response, tuple):
        content: Object = {media: {} for media in operation.response}
        return {"description": "The file.", "headers": fields, "content": content}
    content = {operation.media_type: {"schema": context.schemas[operation.response]}}
    return {"description": inspect.getdoc(operation.response), "headers": fields, "content": content}


def _description(kinds: Iterable[type[TokenappError]], context: _Context) -> str:
    rows = sorted((problems.status_of(kind, context.settings), kind.code, inspect.getdoc(kind)) for kind in kinds)
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
        "accessKey": {
            "type": "http",
            "scheme": "bearer",
            "description": "An access key, as `POST /api/me/access-keys` returns it.",
        },
        "refreshCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.cookie_name,
            "description": "The refresh token. Browsers store it and send it automatically.",
        },
    }
