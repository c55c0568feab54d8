"""The history of a session: why it ended, in a sentence for operators."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from tokenapp import access_keys, accounts, audit, errors, sessions
from tokenapp.models import AccessKey, AuditEvent, Session
from tokenapp.sessions import device_names

_SHOWN: Final = 5
_METHODS: Final = {"totp": "an authenticator app", "recovery_code": "a recovery code", "passkey": "a passkey"}


def explain(subject: str, now: datetime) -> Iterator[str]:
    """Yield a sentence for a session or access key, or the latest ones of a user.

    Raises:
        errors.UserNotFound: it is neither.
    """
    row = sessions.get(subject)
    if row is not None:
        yield _sentence(row, now)
        yield from _failures("The user", sid=row.id)
        return
    key = access_keys.get(subject)
    if key is not None:
        yield _sentence_of_key(key, now)
        return
    events = audit.list_events(sid=subject)
    if events:
        yield from _sentences_of_pruned(subject, events)
        return
    try:
        user = accounts.find(subject)
    except errors.UserNotFound:
        raise errors.UserNotFound(detail="There is no session, access key or user with that name.") from None
    latest = sessions.latest_of(user.id, limit=_SHOWN)
    if not latest:
        yield f"{user.username} has no session, and no recent one is known."
    for session in latest:
        yield _sentence(session, now)
    for key in access_keys.latest_of(user.id, limit=_SHOWN):
        yield _sentence_of_key(key, now)
    yield from _failures(user.username, user_id=user.id)


def _failures(username: str, *, user_id: str | None = None, sid: str | None = None) -> Iterator[str]:
    """Yield a sentence for each of the latest factors that failed."""
    failed = audit.list_events(user_id=user_id, sid=sid, kind="factor_failed", newest=True, limit=_SHOWN)
    for event in reversed(failed):
        yield _factor_failed(username, event)


def _factor_failed(username: str, event: AuditEvent) -> str:
    method, _, cause = (event.reason or "").partition(": ")
    times = f" (the last of {event.count} times)" if event.count > 1 else ""
    if method == "passkey alone":
        return f"{username} could not sign in with a passkey {_at(event.at)}{times}: {cause}."
    name = _METHODS.get(method, method)
    return f"{username} did not pass the second step with {name} {_at(event.at)}{times}: {cause}."


def _sentence(row: Session, now: datetime) -> str:
    last_seen = row.rotated_at or row.created_at
    subject = f"The session {row.id} ({device_names.describe(row.user_agent)}), opened {_at(row.created_at)},"
    refreshed = f"last refreshed {_at(last_seen)}"
    if row.revoked_at is not None:
        cause = _cause(row.revoked_reason)
        return f"{subject} was revoked {_at(row.revoked_at)} because {cause}{_actor(row.id)}; {refreshed}."
    if now >= row.ends_at:
        return f"{subject} reached its maximum lifetime {_at(row.ends_at)}; {refreshed}."
    if now >= row.expires_at:
        return f"{subject} was idle for too long and expired {_at(row.expires_at)}; {refreshed}."
    return (
        f"{subject} is live; {refreshed}, valid until {_at(row.expires_at)} if unused.{_ahead(row.id)}{_binding(row)}"
    )


def _sentence_of_key(key: AccessKey, now: datetime) -> str:
    used = f"last used {_at(key.last_used_at)}" if key.last_used_at is not None else "never used"
    subject = f"The access key {key.id} ({key.name}), created {_at(key.created_at)},"
    if key.revoked_at is not None:
        cause = access_keys.REASONS.get(key.revoked_reason or "", "of an unknown reason")
        actor = _actor(key.id, "access_key_revoked")
        return f"{subject} was revoked {_at(key.revoked_at)} because {cause}{actor}; {used}."
    if now >= key.expires_at:
        return f"{subject} expired {_at(key.expires_at)}; {used}."
    return f"{subject} is live; {used}, valid until {_at(key.expires_at)}."


def _sentences_of_pruned(sid: str, events: Sequence[AuditEvent]) -> Iterator[str]:
    """Explain a session whose row was pruned, from the audit log."""
    if events[0].kind.startswith("access_key"):
        for event in events:
            if event.kind == "access_key_revoked":
                cause = access_keys.REASONS.get(event.reason or "", "of an unknown reason")
                yield f"The access key {sid} was revoked {_at(event.at)} because {cause}."
                return
        yield f"The access key {sid} was pruned. The audit log contains no revocation, so it expired."
        return
    revocations = [event for event in events if event.kind == "session_ended"]
    for event in revocations:
        yield f"The session {sid} was revoked {_at(event.at)} because {_cause(event.reason)}."
    if not revocations:
        yield f"The session {sid} was pruned. The audit log contains no revocation, so it expired."


def _cause(reason: str | None) -> str:
    return sessions.REASONS.get(reason or "", reason or "of an unknown reason")


def _ahead(sid: str) -> str:
    events = audit.list_events(sid=sid, kind="refresh_ahead")
    if not events:
        return ""
    return f" A refresh token newer than the database was rejected {_at(events[-1].at)}, as after restoring a backup."


def _binding(row: Session) -> str:
    if row.bound_at is None:
        return ""
    bound = f" It has been bound to a key of the device since {_at(row.bound_at)}."
    if row.unproved_at is None:
        return bound
    return f"{bound} A refresh without that key was last seen {_at(row.unproved_at)}, as from a copy of the cookies."


def _actor(sid: str, kind: audit.Kind = "session_ended") -> str:
    for event in audit.list_events(sid=sid, kind=kind):
        if event.actor == "operator":
            return " (a command)"
        if event.ip_address:
            return f" (request {event.request_id} from {event.ip_address})"
    return ""


def _at(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")
