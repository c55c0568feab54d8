"""Each refusal a class with its code, status and sentence, and the one renderer to problem+json (RFC 9457)."""

from typing import ClassVar, Literal

import msgspec
from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from tokenapp import db

Outcome = Literal["revoked", "ahead", "reuse"]
RETRY_SECONDS = 1


class Refusal(Exception):  # noqa: N818 -- a refusal is an answer, not a fault of the program
    """What a client is told when it cannot have what it asked for.

    `reason` is for the log alone; the client sees only the class's own words and `detail`, if one is given.
    `outcome` tells apart, for the metrics, refusals of one class.
    """

    code: ClassVar[str]
    status: int
    title: ClassVar[str]
    message: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.title = cls.code.replace("_", " ").capitalize()

    def __init__(
        self,
        *,
        reason: str | None = None,
        detail: str | None = None,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        sid: str | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(reason or self.code)
        self.reason = reason
        self.detail = detail or self.message
        self.status = status or type(self).status
        self.headers = headers or {}
        self.sid = sid
        self.outcome = outcome


class InvalidRequest(Refusal):
    """The request's form is wrong."""

    code, status, message = "invalid_request", 400, "The request is malformed."


class InvalidCredentials(Refusal):
    """Unknown user, wrong password and disabled user alike."""

    code, status, message = "invalid_credentials", 401, "Invalid credentials."


class InvalidClient(Refusal):
    """Another service did not prove who it is: ``client_id`` or secret is missing, wrong or deleted."""

    code, status, message = "invalid_client", 401, "Client credentials are required."


class RefreshTokenMissing(Refusal):
    """No refresh cookie came along."""

    code, status, message = "refresh_token_missing", 401, "Refresh token not found."


class RefreshTokenExpired(Refusal):
    """An authentic refresh token, or its session, is past its time."""

    code, status = "refresh_token_expired", 403
    message = "Refresh token invalid or expired."


class RefreshTokenRevoked(Refusal):
    """Any other refresh token that is not good: which way, only the log tells."""

    code, status = "refresh_token_revoked", 403
    message = "Refresh token invalid or revoked."


class AccessTokenMissing(Refusal):
    """No bearer token came along."""

    code, status, message = "access_token_missing", 401, "Access token required."


class AccessTokenInvalid(Refusal):
    """A bearer token that is not good."""

    code, status = "access_token_invalid", 403
    message = "Access token invalid or expired."


class PasswordRejected(Refusal):
    """A new password breaks the rule; the detail says which part of it."""

    code, status, message = "password_rejected", 400, "The password is not good enough."


class UsernameRejected(Refusal):
    """A new user name cannot be had; the detail says why."""

    code, status, message = "username_rejected", 400, "The user name cannot be used."


class UsernameTaken(Refusal):
    """Somebody has that name, perhaps in another spelling."""

    code, status, message = "username_taken", 409, "The user name is taken."


class UserNotFound(Refusal):
    """Nobody has that name."""

    code, status, message = "user_not_found", 404, "There is no such user."


class SessionNotFound(Refusal):
    """No such session, or somebody else's."""

    code, status, message = "session_not_found", 404, "There is no such session."


class TooManyAttempts(Refusal):
    """Too many failures on this account or from this address; ``Retry-After`` tells when to come back."""

    code, status, message = "too_many_attempts", 429, "Too many attempts. Please try again later."


class ReauthenticationRequired(Refusal):
    """The password was given too long ago for this; ``WWW-Authenticate`` says so in the words of RFC 9470."""

    code, status, message = "reauthentication_required", 401, "Please give your password again."


class KeyNotFound(Refusal):
    """No such signing key, or it is retired."""

    code, status, message = "key_not_found", 404, "There is no such key."


class KeyPending(Refusal):
    """A key waits already to sign next."""

    code, status, message = "key_pending", 409, "There is a next key already; it must sign before another is made."


class KeyInUse(Refusal):
    """The key still verifies live tokens."""

    code, status, message = "key_in_use", 409, "The key still verifies live tokens."


class KeyRejected(Refusal):
    """The key is weak, or not of a kind that we sign with."""

    code, status, message = "key_rejected", 400, "The key cannot be used."


class ClientNotFound(Refusal):
    """No such client."""

    code, status, message = "client_not_found", 404, "There is no such client."


class CrossSiteRequest(Refusal):
    """A page of another site tried to use the visitor's cookie or to sign the visitor in."""

    code, status = "cross_site_request", 403
    message = "Requests from other sites are refused."


class NotFound(Refusal):
    """No such path."""

    code, status, message = "not_found", 404, "There is nothing at this path."


class MethodNotAllowed(Refusal):
    """The path exists, but not for this method; ``Allow`` lists those that it has."""

    code, status = "method_not_allowed", 405
    message = "This path does not answer that method."


class RequestTooLarge(Refusal):
    """The body is over 16 KiB."""

    code, status = "request_too_large", 413
    message = "The request body is larger than 16 KiB."


class UnsupportedMediaType(Refusal):
    """The body is not declared as JSON."""

    code, status = "unsupported_media_type", 415
    message = "The request body must be application/json."


class InternalError(Refusal):
    """A bug of ours."""

    code, status = "internal_error", 500
    message = "Something went wrong on our side."


class ServiceUnavailable(Refusal):
    """Something that we depend on is away, or we are too busy; nothing was lost and a retry is welcome."""

    code, status = "service_unavailable", 503
    message = "The service is unavailable for a moment. Please try again."


_BY_STATUS: dict[int, type[Refusal]] = {
    kind.status: kind
    for kind in (NotFound, MethodNotAllowed, RequestTooLarge, UnsupportedMediaType, InternalError, ServiceUnavailable)
}


class Problem(msgspec.Struct, rename="camel"):
    """The body of every refusal (RFC 9457); `message` repeats `detail` for clients of the service before this one."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    request_id: str


def init_app(app: Flask) -> None:
    """Answer every error of `app` as problem+json."""
    app.url_map.merge_slashes = False  # Werkzeug would redirect, to whatever host the request named
    app.register_error_handler(Refusal, render)
    app.register_error_handler(HTTPException, _render_http)
    app.register_error_handler(Exception, _render_fault)


def render(refusal: Refusal) -> Response:
    """Turn `refusal` into its answer, and note it for the request's log line."""
    g.refusal = refusal
    problem = Problem(
        type=f"urn:tokenapp:error:{refusal.code}",
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        code=refusal.code,
        message=refusal.detail,
        request_id=g.get("request_id", ""),
    )
    response = Response(msgspec.json.encode(problem), status=refusal.status, mimetype="application/problem+json")
    response.headers.extend(refusal.headers)
    if refusal.status == ServiceUnavailable.status:
        response.headers.setdefault("Retry-After", str(RETRY_SECONDS))
    return response


def _render_http(error: HTTPException) -> Response:
    status = error.code or InternalError.status
    kind = _BY_STATUS.get(status, InvalidRequest if status < InternalError.status else InternalError)
    allow = [(name, value) for name, value in error.get_headers() if name == "Allow"]
    return render(kind(headers=dict(allow), reason=error.name))


def _render_fault(error: Exception) -> Response:
    refusal = (ServiceUnavailable if db.is_fault(error) else InternalError)(reason=type(error).__name__)
    refusal.__cause__ = error  # for the request's log line
    return render(refusal)
