"""JWTs: minted with the keyring, and verified strictly."""

from tokenapp.tokens.manager import (
    FRESH_CHALLENGE,
    FRESH_FOR,
    Minted,
    clear_cookie,
    decode,
    init_app,
    mint,
    read_cookie,
    set_cookie,
    sid_of_cookie,
    sids_of,
    sids_of_cookies,
    try_read,
)
from tokenapp.tokens.verification import AccessClaims

__all__ = [
    "FRESH_CHALLENGE",
    "FRESH_FOR",
    "AccessClaims",
    "Minted",
    "clear_cookie",
    "decode",
    "init_app",
    "mint",
    "read_cookie",
    "set_cookie",
    "sid_of_cookie",
    "sids_of",
    "sids_of_cookies",
    "try_read",
]
