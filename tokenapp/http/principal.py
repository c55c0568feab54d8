"""The caller of a request, and the state that is shared while it is handled."""

import re
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import jwt
import msgspec
from flask import Request, g, request
from flask_jwt_extended import verify_jwt_in_request
from flask_jwt_extended.exceptions import FreshTokenRequired, JWTExtendedException

from tokenapp import access_keys, config, errors, sessions, tokens
from tokenapp.http.rate_limit import client_network
from tokenapp.models import Grant, RefreshClaims
from tokenapp.sessions import revocation_list
from tokenapp.sessions.authorization import RECENT

_BEARER_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_CREDENTIAL: Final = re.compile(r"(?:^|,)\s*[!#$%&'*+.^_`|~\w-]+\s+[^=\s,]")
_OF_KEYS: Final = (access_keys.METHOD,)


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller of a request.

    `authenticated_at`, `amr` and `acr` describe the sign-in.
    """

    user_id: str
    sid: str
    username: str
    authenticated_at: datetime
    amr: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    acr: str = "1"


class RequestState(msgspec.Struct):
    """The state of one request, at ``flask.g.state``.

    `request_id` is the caller's if it sent one; `own_id` is never chosen by a caller. `began` is a `perf_counter` time;
    `body` was read before the view; `sid` is the session that the request changed; `own` is false for the views of
    another application in the same process.
    """

    began: float
    request_id: str
    own_id: str
    body: bytes | None = None
    principal: Principal | None = None
    claims: RefreshClaims | None = None
    grant: Grant | None = None
    sid: str | None = None
    error: errors.TokenappError | None = None
    own: bool = True


def authenticate(*, fresh: bool = False, level: bool = False, keys: bool = False) -> Principal:
    """Return the principal of the request's bearer token.

    Args:
        fresh: whether the user must have signed in within the last 15 minutes.
        level: whether the sign-in must have the level of the account: with two factors, if it has a second one.
        keys: whether the token of an access key is allowed.

    Raises:
        errors.AccessTokenMissing, errors.AccessTokenInvalid, errors.InvalidRequest (RFC 6750, 3.1)
        errors.ReauthenticationRequired (RFC 9470, 3)
        errors.InsufficientScope: it is the token of an access key.
    """
    token = _bearer_token()
    try:
        claims = tokens.decode(token)
        if claims["type"] != "access":
            _reject("not an access token")
        if revocation_list.is_revoked(claims["sid"], datetime.now(UTC), claims.get("roles_id", "")):
            _reject("session ended, or a role was removed")
        principal = g.state.principal = _principal(claims)
        if principal.amr == _OF_KEYS and not keys:
            raise errors.InsufficientScope(challenge='error="insufficient_scope"', reason="an access key")
        if fresh:  # only now: the holder of a revoked token must not be asked to authenticate again
            verify_jwt_in_request(fresh=True, locations="headers")
    except FreshTokenRequired:
        raise errors.ReauthenticationRequired(challenge=tokens.FRESH_CHALLENGE) from None
    except (JWTExtendedException, jwt.PyJWTError) as error:
        _reject(str(error))
    if level:
        sessions.check_authorized(principal.user_id, principal.sid, datetime.now(UTC))
    return principal


def authenticate_recent() -> Principal:
    """Return the principal, who must have signed in within five minutes.

    The sign-in must have the level of the account.

    Raises:
        errors.AccessTokenMissing, errors.AccessTokenInvalid, errors.InvalidRequest
        errors.ReauthenticationRequired (RFC 9470, 3)
    """
    principal = authenticate(level=True)
    if principal.authenticated_at < datetime.now(UTC) - RECENT:
        challenge = f'error="insufficient_user_authentication", max_age="{RECENT.seconds}"'
        raise errors.ReauthenticationRequired(challenge=challenge)
    return principal


def authenticate_for_proxy() -> Principal:
    """Return the principal for a proxy, of an access token or an access key.

    Proxies handle success, 401 and 403 only.

    Raises:
        errors.AccessTokenMissing, errors.AccessTokenInvalid
    """
    try:
        if access_keys.PREFIX not in request.headers.get("Authorization", ""):
            return authenticate(keys=True)
        holder = access_keys.verify(_bearer_token(), client_network(), datetime.now(UTC))
    except (errors.InvalidRequest, errors.AccessKeyInvalid, errors.TooManyAttempts) as error:
        raise errors.AccessTokenInvalid(reason=error.reason, sid=error.sid) from None
    return keep_holder(holder)


def access_key() -> str | None:
    """Return the access key in ``Authorization``, or None.

    Raises:
        errors.InvalidRequest: there is another credential, too.
    """
    scheme, token = _authorization()
    if scheme != "bearer" or access_keys.PREFIX not in token:
        return None
    given = len(_CREDENTIAL.findall(request.headers["Authorization"]))
    if given > 1 or config.current().cookie_name in request.cookies:
        raise errors.InvalidRequest(reason="two credentials", detail="Only one credential is allowed.")
    return token


def keep_holder(holder: access_keys.Holder) -> Principal:
    """Make the user of an access key the principal of the request."""
    principal = g.state.principal = Principal(
        holder.user_id,
        holder.key_id,
        holder.username,
        holder.created_at,
        _OF_KEYS,
        holder.roles,
        holder.scopes,
    )
    return principal


def sids_of_bearer() -> list[str]:
    """Return the session of the request's bearer token, if the token is valid."""
    scheme, token = _authorization()
    return tokens.sids_of(token, "access") if scheme == "bearer" else []


def normalise_scheme(current: Request) -> None:
    """Write ``bearer`` as flask-jwt-extended expects it, for views that use it."""
    scheme, _, token = current.headers.get("Authorization", "").strip(" \t").partition(" ")
    if scheme.lower() == "bearer":
        current.environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"


def _principal(claims: dict[str, Any]) -> Principal:
    return Principal(
        claims["sub"],
        claims["sid"],
        claims["username"],
        datetime.fromtimestamp(claims["auth_time"], UTC),
        tuple(claims.get("amr", ())),
        tuple(claims.get("roles", ())),
        tuple(claims.get("scope", "").split()),
        acr=claims.get("acr", "1"),
    )


def _bearer_token() -> str:
    """Return the bearer token of the request.

    This also normalises the header for the library.
    """
    if len(_CREDENTIAL.findall(request.headers.get("Authorization", ""))) > 1:
        raise errors.InvalidRequest(reason="two credentials", detail="Only one credential is allowed.")
    scheme, token = _authorization()
    if scheme != "bearer" or not token:
        raise errors.AccessTokenMissing
    if not _BEARER_TOKEN.fullmatch(token):
        _reject("malformed header")
    request.environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return token


def _authorization() -> tuple[str, str]:
    """Return the scheme in lower case and the rest of ``Authorization``.

    Schemes are case-insensitive (RFC 9110, 11.1).
    """
    scheme, _, token = request.headers.get("Authorization", "").strip(" \t").partition(" ")
    return scheme.lower(), token.strip(" \t")


def _reject(reason: str) -> NoReturn:
    raise errors.AccessTokenInvalid(reason=reason)
