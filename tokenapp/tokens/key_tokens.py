"""Access tokens that an access key is exchanged for."""

from datetime import datetime
from typing import Any

from flask_jwt_extended import create_access_token

from tokenapp import config
from tokenapp.access_keys import METHOD, Holder
from tokenapp.factors import levels


def mint_for_key(holder: Holder, now: datetime) -> tuple[str, int]:
    """Return an access token for a key, and its lifetime in seconds.

    Its `sid` is the id of the key, and it is never fresh. It does not outlive the key.
    """
    issued, ends = int(now.timestamp()), int(holder.expires_at.timestamp())
    expires = min(issued + config.current().access_lifetime, ends)
    claims: dict[str, Any] = {
        "sid": holder.key_id,
        "iat": issued,
        "exp": expires,
        "auth_time": int(holder.created_at.timestamp()),
        "session_expiry": ends,
        "amr": [METHOD],
        "acr": levels.ONE_FACTOR,
        "username": holder.username,
    }
    if holder.scopes:
        claims["scope"] = " ".join(holder.scopes)
    if holder.roles:
        claims |= {"roles": holder.roles, "roles_id": holder.roles_id}
    token: str = create_access_token(holder.user_id, fresh=False, additional_claims=claims)
    return token, expires - issued
