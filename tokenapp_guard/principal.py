"""The principal of a token, and the requirements of a view."""

from dataclasses import dataclass
from typing import Any

from tokenapp_guard.errors import AccessError


@dataclass(frozen=True)
class Principal:
    """The user of a verified token, and how they signed in.

    Attributes:
        subject: the id of the user.
        session: the id of the session or access key.
        scopes: those of an access key; a session has none.
        acr: "2" after a sign-in with two factors or a passkey, otherwise "1".
        claims: all claims of the token.
    """

    subject: str
    session: str
    username: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    amr: tuple[str, ...]
    acr: str
    claims: dict[str, Any]


@dataclass(frozen=True)
class Requirement:
    """A role, scopes separated by spaces, and the level of the sign-in ("1" or "2").

    Raises:
        ValueError: a value cannot be required.
    """

    role: str | None = None
    scope: str | None = None
    acr: str | None = None

    def __post_init__(self) -> None:
        if self.role == "" or (self.scope is not None and not self.scope.split()) or self.acr not in {None, "1", "2"}:
            raise ValueError('a role and a scope must not be empty, and acr is "1" or "2"')

    def check(self, principal: Principal) -> None:
        """Check that `principal` has the role and the scopes and signed in well enough.

        Raises:
            AccessError: 403 ``insufficient_scope`` (RFC 6750, 3.1), or 401 ``insufficient_user_authentication``
                (RFC 9470, 3) if only the sign-in does not suffice.
        """
        if self.role is not None and self.role not in principal.roles:
            raise AccessError(403, "insufficient_scope", f"The role {self.role} is required.")
        if self.scope is not None and not set(self.scope.split()) <= set(principal.scopes):
            raise AccessError(403, "insufficient_scope", f"The scope {self.scope} is required.", scope=self.scope)
        if self.acr is not None and _level(principal.acr) < int(self.acr):
            detail = "A sign-in with a second factor or a passkey is required."
            raise AccessError(401, "insufficient_user_authentication", detail, acr_values=self.acr)


def _level(acr: str) -> int:
    return int(acr) if acr in {"1", "2"} else 0
