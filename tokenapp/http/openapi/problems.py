"""The errors of the OpenAPI document: one schema per code, and their responses.

Each schema is complete. Code generators drop schemas that narrow another one with ``allOf``.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tokenapp import errors
from tokenapp.config import Settings
from tokenapp.errors import TokenappError
from tokenapp.http.openapi import headers
from tokenapp.http.problems import OAuthError, Problem, SecondFactorProblem

Object = dict[str, Any]

_TYPE: Final = "application/problem+json"
_HEADERS_OF: Final[Mapping[type[TokenappError], str]] = {
    errors.AccessTokenMissing: "WWW-Authenticate",
    errors.AccessTokenInvalid: "WWW-Authenticate",
    errors.AccessKeyInvalid: "WWW-Authenticate",
    errors.InsufficientScope: "WWW-Authenticate",
    errors.ReauthenticationRequired: "WWW-Authenticate",
    errors.TooManyAttempts: "Retry-After",
    errors.ServiceUnavailable: "Retry-After",
    errors.MethodNotAllowed: "Allow",
    errors.DeviceProofRequired: "Secure-Session-Challenge",
}


def schemas(kinds: Iterable[type[TokenappError]], oauth: Iterable[str], settings: Settings) -> dict[str, Object]:
    """Return the schemas of all errors by name."""
    kinds = list(kinds)
    types = [Problem, OAuthError, SecondFactorProblem]
    problem, oauth_error, second_factor = (msgspec.json.schema_components([kind])[1][kind.__name__] for kind in types)
    named = {_name(code, OAuthError): _narrowed(oauth_error, {"error": code}) for code in oauth}
    for kind in kinds:
        values = {"status": status_of(kind, settings), "code": kind.code}
        named[_name(kind.code, Problem)] = _narrowed(
            second_factor if kind is errors.SecondFactorRequired else problem, values, inspect.getdoc(kind)
        )
    return dict(sorted(named.items()))


def response(status: int, kinds: list[type[TokenappError]], settings: Settings) -> Object:
    """Return the response of a status.

    A header is required if all errors of the status have it.
    """
    fields = headers.on_every_response(settings, cacheable=False)
    for name in sorted({_HEADERS_OF[kind] for kind in kinds if kind in _HEADERS_OF}):
        fields[name] = headers.header(name, required=all(_HEADERS_OF.get(kind) == name for kind in kinds))
    references = [_reference(kind.code, Problem) for kind in kinds]
    schema = references[0] if len(references) == 1 else {"oneOf": references}
    examples = {kind.code: {"value": _example(kind, status)} for kind in kinds}
    return {
        "description": "\n".join(f"- `{kind.code}`: {inspect.getdoc(kind)}" for kind in kinds),
        "headers": fields,
        "content": {_TYPE: {"schema": schema, "examples": examples}},
    }


def oauth_response(code: str, settings: Settings) -> Object:
    """Return the response of an OAuth error."""
    fields = headers.on_every_response(settings, cacheable=False)
    if code == errors.InvalidClient.code:
        fields["WWW-Authenticate"] = headers.basic_challenge()
    return {
        "description": f"- `{code}` (RFC 6749, 5.2)",
        "headers": fields,
        "content": {"application/json": {"schema": _reference(code, OAuthError)}},
    }


def status_of(kind: type[TokenappError], settings: Settings) -> int:
    """Return the status of an error, which is a setting for one of them."""
    return settings.invalid_token_status if kind is errors.AccessTokenInvalid else kind.status


def _narrowed(schema: Object, values: Mapping[str, Any], description: str | None = None) -> Object:
    """Return an object schema in which some properties have one value."""
    properties = {name: {**schema["properties"][name], "const": value} for name, value in values.items()}
    return {
        "type": "object",
        "description": description or schema["description"],
        "properties": schema["properties"] | properties,
        "required": schema["required"],
    }


def _name(code: str, kind: type[msgspec.Struct]) -> str:
    return "".join(word.capitalize() for word in code.split("_")) + kind.__name__


def _reference(code: str, kind: type[msgspec.Struct]) -> Object:
    return {"$ref": f"#/components/schemas/{_name(code, kind)}"}


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
    example: Object = msgspec.to_builtins(problem)
    if kind is errors.SecondFactorRequired:
        example |= {"pending": "A" * 43, "methods": ["totp", "recovery_code"], "setup": []}
    return example
