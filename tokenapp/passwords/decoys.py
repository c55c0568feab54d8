"""Decoys: what is verified for unknown users, so that time reveals none."""

import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import sqlalchemy as sa

from tokenapp import config, db
from tokenapp.encryption import keyed_digest
from tokenapp.models import User

_RENEW_EVERY: Final = 600.0  # seconds


@dataclass(slots=True)
class _Kinds:
    """One process's cache of the kinds of hashes, and how many users have each."""

    counts: list[tuple[str, int]] = field(default_factory=list)
    read_at: float | None = None
    renewing: threading.Lock = field(default_factory=threading.Lock)


def kind_for(name: str) -> str:
    """Return a kind for `name`, always the same, in the proportions of the table."""
    counts = _counts()
    total = sum(count for _, count in counts)
    position = int.from_bytes(keyed_digest(f"decoy {name}").encode()[:12]) % max(1, total)
    for kind, count in counts:
        position -= count
        if position < 0:
            return kind
    settings = config.current()
    return f"argon2id:{settings.password_memory}:{settings.password_passes}:1"


def _counts() -> list[tuple[str, int]]:
    kinds = db.per_process(_Kinds)
    if kinds.read_at is None or monotonic() - kinds.read_at > _RENEW_EVERY:
        with kinds.renewing:
            if kinds.read_at is None or monotonic() - kinds.read_at > _RENEW_EVERY:
                grouped = sa.select(User.hash_kind, sa.func.count()).group_by(User.hash_kind).order_by(User.hash_kind)
                rows: Any = db.execute_now(grouped)
                kinds.counts = [(kind, number) for kind, number in rows if kind]
                kinds.read_at = monotonic()
    return kinds.counts
