"""Sessions: opened by a sign-in, rotated, revoked, listed and pruned."""

from tokenapp.models import Device
from tokenapp.sessions.authorization import authorize, check_authorized
from tokenapp.sessions.erasure import erase_devices, ids_of
from tokenapp.sessions.feed import FEED_OVERLAP, FEED_PAGE, revoked_since
from tokenapp.sessions.listing import exists, get, latest_of, list_sessions, page_of
from tokenapp.sessions.opening import (
    open_first,
    open_session,
    reauthenticate,
    replace_sessions,
    unchanged,
)
from tokenapp.sessions.pruning import count_prunable, prune
from tokenapp.sessions.revocation import (
    BATCH,
    REASONS,
    Reason,
    revoke,
    revoke_all_of,
    revoke_batches,
    revoke_own,
    revoke_where,
)
from tokenapp.sessions.rotation import is_active, refresh

__all__ = [
    "BATCH",
    "FEED_OVERLAP",
    "FEED_PAGE",
    "REASONS",
    "Device",
    "Reason",
    "authorize",
    "check_authorized",
    "count_prunable",
    "erase_devices",
    "exists",
    "get",
    "ids_of",
    "is_active",
    "latest_of",
    "list_sessions",
    "open_first",
    "open_session",
    "page_of",
    "prune",
    "reauthenticate",
    "refresh",
    "replace_sessions",
    "revoke",
    "revoke_all_of",
    "revoke_batches",
    "revoke_own",
    "revoke_where",
    "revoked_since",
    "unchanged",
]
