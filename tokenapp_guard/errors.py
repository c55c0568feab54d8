"""The error that the adapters send as a response."""

from typing import Any, Final

_CHALLENGES: Final = {
    "access_token_invalid": "invalid_token",
    "insufficient_scope": "insufficient_scope",
    "insufficient_user_authentication": "insufficient_user_authentication",
}


class AccessError(Exception):
    """The token is missing, invalid or insufficient, or cannot be verified now.

    Args:
        parameters: more parameters of the challenge in ``WWW-Authenticate``.
    """

    def __init__(self, status: int, code: str, detail: str, **parameters: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.parameters = status, code, detail, parameters

    def problem(self) -> dict[str, Any]:
        """Return the body of the response, of the type ``application/problem+json``."""
        return {
            "type": f"urn:tokenapp:error:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }

    def response_headers(self, realm: str) -> dict[str, str]:
        """Return the headers of the response (RFC 6750, 3)."""
        if self.status == 503:  # noqa: PLR2004 -- Service Unavailable
            return {"Retry-After": "1"}
        parameters = {"realm": realm}
        if self.code in _CHALLENGES:
            parameters["error"] = _CHALLENGES[self.code]
        stated = ", ".join(f'{name}="{value}"' for name, value in (parameters | self.parameters).items())
        return {"WWW-Authenticate": f"Bearer {stated}"}
