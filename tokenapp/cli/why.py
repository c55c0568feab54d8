"""Why somebody was signed out, in a sentence that an operator can read to them over the telephone."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from tokenapp import accounts, devices, errors, events, sessions
from tokenapp.models import Event, Session

_SHOWN: Final = 5
_CAUSES: Final = {
    "logout": "they signed out",
    "replaced": "they signed in anew in the same browser",
    "reuse": "a refresh token that had long been replaced was presented again, as after a theft",
    "password_changed": "the password was changed",
    "user_disabled": "the user was disabled",
    "operator": "an operator ended it",
    "ended_by_user": "they ended it from their list of devices",
    "signed_out_everywhere": "they signed out everywhere",
    "revoked_by_client": "another service asked for it",
    "key_dropped": "the key that had signed its refresh token was dropped",
}


def explain(subject: str, now: datetime) -> Iterator[str]:
    """Give a sentence for the session `subject`, or for each of the latest sessions of the user of that name.

    Raises:
        errors.UserNotFound: it is neither.
    """
    row = sessions.get(subject)
    if row is not None:
        yield _sentence(row, now)
        return
    trail = events.list_events(sid=subject)
    if trail:
        yield from _sentences_of_trail(subject, trail)
        return
    try:
        user = accounts.find(subject)
    except errors.UserNotFound:
        raise errors.UserNotFound(detail="There is no such session and no such user.") from None
    latest = sessions.latest_of(user.id, limit=_SHOWN)
    if not latest:
        yield f"{user.username} has no session, and none that ended lately is known."
    for session in latest:
        yield _sentence(session, now)


def _sentence(row: Session, now: datetime) -> str:
    last_seen = row.rotated_at or row.created_at
    who = f"The session {row.id} ({devices.describe(row.user_agent)}), begun {_at(row.created_at)}"
    if row.revoked_at is not None:
        cause = _CAUSES.get(row.revoked_reason or "", row.revoked_reason)
        return f"{who}, ended {_at(row.revoked_at)} because {cause}{_doer(row.id)}; last refreshed {_at(last_seen)}."
    if now >= row.ends_at:
        return f"{who}, reached its absolute limit {_at(row.ends_at)}; last refreshed {_at(last_seen)}."
    if now >= row.expires_at:
        return f"{who}, was not used for too long and expired {_at(row.expires_at)}; last refreshed {_at(last_seen)}."
    good_until = f"good until {_at(row.expires_at)} if not used"
    return f"{who}, is live; last refreshed {_at(last_seen)}, {good_until}.{_ahead(row.id)}"


def _sentences_of_trail(sid: str, trail: Sequence[Event]) -> Iterator[str]:
    """Tell of a session whose row was pruned, from what the trail still says."""
    ends = [event for event in trail if event.kind == "session_ended"]
    for event in ends:
        yield f"The session {sid} ended {_at(event.at)} because {_CAUSES.get(event.reason or '', event.reason)}."
    if not ends:
        yield f"The session {sid} is no longer kept; the trail tells of no end, so it expired."


def _ahead(sid: str) -> str:
    trail = events.list_events(sid=sid, kind="refresh_ahead")
    if not trail:
        return ""
    return f" A refresh token newer than the database was refused {_at(trail[-1].at)}, as after a restored backup."


def _doer(sid: str) -> str:
    for event in events.list_events(sid=sid, kind="session_ended"):
        if event.actor == "operator":
            return " (a command)"
        if event.ip_address:
            return f" (request {event.request_id} from {event.ip_address})"
    return ""


def _at(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
