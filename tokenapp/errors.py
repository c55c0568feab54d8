"""The errors that a client can get: classes with code, status and message."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Outcome = Literal["revoked", "ahead", "reuse", "unproved", "late"]


class TokenappError(Exception):
    """An error that is answered to the client as problem+json.

    Args:
        reason: for the log only. The client sees the class's message, or `detail` if given.
        detail: a sentence for the client that is more exact than the class's message.
        retry_after: seconds after which a retry makes sense.
        challenge: parameters of the ``WWW-Authenticate`` challenge (RFC 6750, 3).
        allow: the methods that the path supports.
        device_challenge: what the key of a bound session must sign.
        sid: the session that the error is about, for the log.
        outcome: tells errors of one class apart in the metrics.
        members: more members of the response's body.
    """

    code: ClassVar[str]
    status: int
    title: ClassVar[str]
    message: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.title = cls.code.replace("_", " ").capitalize()

    def __init__(  # noqa: PLR0913 -- each is optional and given by name
        self,
        *,
        reason: str | None = None,
        detail: str | None = None,
        status: int | None = None,
        retry_after: int | None = None,
        challenge: str | None = None,
        allow: str | None = None,
        device_challenge: str | None = None,
        sid: str | None = None,
        outcome: Outcome | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason or self.code)
        self.reason = reason
        self.detail = detail or self.message
        self.status = status or type(self).status
        self.retry_after = retry_after
        self.challenge = challenge
        self.allow = allow
        self.device_challenge = device_challenge
        self.sid = sid
        self.outcome = outcome
        self.members = members


class InvalidRequest(TokenappError):
    """The request is malformed."""

    code, status, message = "invalid_request", 400, "The request is malformed."


class InvalidCredentials(TokenappError):
    """The user is unknown or disabled, or the password is wrong."""

    code, status, message = "invalid_credentials", 401, "Invalid credentials."


class InvalidClient(TokenappError):
    """The client id or secret is missing, wrong or deleted."""

    code, status, message = "invalid_client", 401, "Client credentials are required."


class ClientNotAllowed(TokenappError):
    """The client does not have the right that this route needs."""

    code, status, message = "unauthorized_client", 403, "The client does not have the right for this."


class RefreshTokenMissing(TokenappError):
    """The request has no refresh cookie."""

    code, status, message = "refresh_token_missing", 401, "Refresh token not found."


class RefreshTokenExpired(TokenappError):
    """The refresh token is authentic, but it or its session has expired."""

    code, status = "refresh_token_expired", 403
    message = "Refresh token invalid or expired."


class RefreshTokenRevoked(TokenappError):
    """The refresh token is not valid for another reason, which only the log states."""

    code, status = "refresh_token_revoked", 403
    message = "Refresh token invalid or revoked."


class DeviceProofInvalid(TokenappError):
    """The proof of the device's key is invalid, so the session is not bound."""

    code, status, message = "device_proof_invalid", 403, "The proof of the device's key is invalid."


class DeviceProofRequired(TokenappError):
    """The device's key must sign the challenge in ``Secure-Session-Challenge``."""

    code, status, message = "device_proof_required", 403, "The device's key must sign the challenge."


class AccessTokenMissing(TokenappError):
    """The request has no bearer token."""

    code, status, message = "access_token_missing", 401, "Access token required."


class AccessTokenInvalid(TokenappError):
    """The bearer token is invalid, expired or revoked."""

    code, status = "access_token_invalid", 403
    message = "Access token invalid or expired."


class AccessKeyInvalid(TokenappError):
    """The access key is mistyped, unknown, expired or revoked."""

    code, status, message = "access_key_invalid", 403, "Access key invalid, expired or revoked."


class InsufficientScope(TokenappError):
    """The access token may not be used for this, for example because it is a key's."""

    code, status, message = "insufficient_scope", 403, "The access token is not allowed to do this."


class PasswordRejected(TokenappError):
    """The new password violates the password policy; the detail says how."""

    code, status, message = "password_rejected", 400, "The password is too weak."


class UsernameRejected(TokenappError):
    """The user name is not allowed; the detail says why."""

    code, status, message = "username_rejected", 400, "The user name is not allowed."


class UsernameTaken(TokenappError):
    """A user has that name, possibly in another spelling."""

    code, status, message = "username_taken", 409, "The user name is taken."


class AddressRejected(TokenappError):
    """The e-mail address is malformed, or mail cannot be sent to it safely."""

    code, status, message = "address_rejected", 400, "This is not an e-mail address that mail can be sent to."


class AddressTaken(TokenappError):
    """Another user has the e-mail address, possibly in another spelling."""

    code, status, message = "address_taken", 409, "Another account has this e-mail address."


class LinkInvalid(TokenappError):
    """The link from a mail is unknown, used, replaced, ended or expired."""

    code, status, message = "link_invalid", 400, "This link is invalid, has expired, or was used before."


class PasswordChangeRequired(TokenappError):
    """The password is right but temporary: sign in with it and `newPassword`."""

    code, status, message = "password_change_required", 401, "Please choose a new password."


class RoleRejected(TokenappError):
    """The name of a role is malformed, or the user has too many roles."""

    code, status = "role_rejected", 400
    message = "A role has 1 to 32 letters, digits and characters of ._:-, and begins with a letter or digit."


class SecondFactorRequired(TokenappError):
    """The password is right: continue with a second factor, or set one up."""

    code, status, message = "second_factor_required", 401, "Please confirm your sign-in with a second factor."


class SignInExpired(TokenappError):
    """The pending sign-in is unknown, used, ended or older than five minutes."""

    code, status, message = "sign_in_expired", 401, "This sign-in has expired. Please start again."


class InvalidCode(InvalidCredentials):
    """The code is wrong, or it was used before."""

    code, status, message = "invalid_code", 401, "The code is wrong, or it was used before."


class PasskeyInvalid(InvalidCode):
    """The signature of a passkey is invalid, late, used or of another account."""

    code, status, message = "passkey_invalid", 401, "The passkey could not be verified."


class PasskeyUnknown(PasskeyInvalid):
    """No account has this passkey; the page can let the authenticator remove it."""

    code, status, message = "passkey_unknown", 401, "This passkey is not known here. It may have been deleted."


class PasskeyRejected(TokenappError):
    """The new passkey cannot be added; the detail may say why."""

    code, status, message = "passkey_rejected", 400, "The passkey could not be added."


class PasskeyNotFound(TokenappError):
    """The passkey does not exist or belongs to another user."""

    code, status, message = "passkey_not_found", 404, "Passkey not found."


class FactorNotFound(TokenappError):
    """The user has no such second factor."""

    code, status, message = "factor_not_found", 404, "Second factor not found."


class LastWayToSignIn(TokenappError):
    """Without this the user could not sign in, or not as the service requires."""

    code, status, message = "last_way_to_sign_in", 409, "This is the last way to sign in. Add another one first."


class UserNotFound(TokenappError):
    """No user has that name or id."""

    code, status, message = "user_not_found", 404, "User not found."


class SessionNotFound(TokenappError):
    """The session does not exist or belongs to another user."""

    code, status, message = "session_not_found", 404, "Session not found."


class AccessKeyNotFound(TokenappError):
    """The access key does not exist, is revoked, or belongs to another user."""

    code, status, message = "access_key_not_found", 404, "Access key not found."


class TooManyAccessKeys(TokenappError):
    """The user has as many live access keys as are allowed."""

    code, status, message = "too_many_access_keys", 409, "There are too many access keys. Please revoke some first."


class TooManyAttempts(TokenappError):
    """Too many failed attempts on this account or address; see ``Retry-After``."""

    code, status, message = "too_many_attempts", 429, "Too many attempts. Please try again later."


class ReauthenticationRequired(TokenappError):
    """The sign-in is too old for this request; see ``WWW-Authenticate`` (RFC 9470)."""

    code, status, message = "reauthentication_required", 401, "Please enter your password again."


class KeyNotFound(TokenappError):
    """The signing key does not exist or is retired."""

    code, status, message = "key_not_found", 404, "Signing key not found."


class KeyPending(TokenappError):
    """A pending signing key exists already."""

    code, status, message = "key_pending", 409, "A pending key exists already. It must become active first."


class KeyInUse(TokenappError):
    """The signing key still verifies valid tokens."""

    code, status, message = "key_in_use", 409, "The key still verifies valid tokens."


class KeyRejected(TokenappError):
    """The signing key is too weak or of an unsupported type."""

    code, status, message = "key_rejected", 400, "The key cannot be used."


class ClientNotFound(TokenappError):
    """The client does not exist."""

    code, status, message = "client_not_found", 404, "Client not found."


class CrossSiteRequest(TokenappError):
    """A page of another site sent the request."""

    code, status = "cross_site_request", 403
    message = "Requests from other sites are not allowed."


class NotFound(TokenappError):
    """The path does not exist."""

    code, status, message = "not_found", 404, "The path does not exist."


class MethodNotAllowed(TokenappError):
    """The path does not support the method; ``Allow`` lists those it supports."""

    code, status = "method_not_allowed", 405
    message = "The method is not allowed for this path."


class RequestTooLarge(TokenappError):
    """The request body is larger than 16 KiB."""

    code, status = "request_too_large", 413
    message = "The request body is larger than 16 KiB."


class UnsupportedMediaType(TokenappError):
    """The request body is not declared as JSON."""

    code, status = "unsupported_media_type", 415
    message = "The request body must be application/json."


class InternalError(TokenappError):
    """A bug in the service."""

    code, status = "internal_error", 500
    message = "An internal error occurred."


class ServiceUnavailable(TokenappError):
    """The service or a dependency is overloaded or unavailable. Retry later."""

    code, status = "service_unavailable", 503
    message = "The service is temporarily unavailable. Please try again."
