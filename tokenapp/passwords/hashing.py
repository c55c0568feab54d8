"""Password hashes: argon2id (RFC 9106), computed in a small pool of threads."""

import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from time import perf_counter, sleep
from typing import Final, TypeVar

import bcrypt  # cryptography imports it too, so this takes no memory
from argon2 import PasswordHasher, Type
from argon2.exceptions import VerificationError
from werkzeug.security import check_password_hash, generate_password_hash  # reads the hashes made by Werkzeug

from tokenapp import config, db, errors
from tokenapp.passwords.formats import is_verifiable
from tokenapp.passwords.policy import normalize

_ARGON2: Final = "$argon2"
_ARGON2_TYPES: Final = {"argon2id": Type.ID, "argon2i": Type.I, "argon2d": Type.D}
_POOL_THREADS: Final = 2
_NICENESS: Final = 10
_RESERVED: Final = 1.0  # seconds of the request that are left to the database
_MIN_TIMEOUT: Final = 0.05
_IDLE_AFTER: Final = 0.5  # seconds without a hash that end a burst

_BCRYPT: Final = "$2"
_BCRYPT_BYTES: Final = 72

_Result = TypeVar("_Result")
_hashed = threading.Event()


class VerificationUnfinished(errors.ServiceUnavailable):
    """The hash was started and not finished in time. It counts as an attempt."""


class Match(IntEnum):
    """The form of a password that matches a hash; `NONE` is false.

    Passwords are hashed in NFC. Other programs hash them as they are sent.
    """

    NONE = 0
    NORMALIZED = 1
    AS_SENT = 2


@dataclass(slots=True)
class Watch:
    """Callbacks of the pool, for metrics and the memory allocator.

    `queue` gets 1 for each password that enters the queue and -1 for each that leaves it. `seconds` gets the duration
    of each hash. `idle` is called after a burst of hashes.
    """

    queue: Callable[[int], object] = lambda _change: None
    seconds: Callable[[float], object] = lambda _seconds: None
    idle: Callable[[], object] = lambda: None


class _Places:
    """The places of one process for requests that hash passwords."""

    def __init__(self) -> None:
        self.free = threading.BoundedSemaphore(max(_POOL_THREADS, config.current().threads - 2))


watch: Final = Watch()


@contextmanager
def place() -> Iterator[None]:
    """Take a place for a request that hashes passwords, before it does anything else.

    Two threads stay free for other requests, so that a flood of sign-ins does not delay refreshes.

    Raises:
        errors.ServiceUnavailable: all places are taken.
    """
    places = db.per_process(_Places).free
    if not places.acquire(blocking=False):
        raise errors.ServiceUnavailable(reason="no place for hashing")
    try:
        yield
    finally:
        places.release()


def hash_password(password: str) -> str:
    """Hash `password` with argon2id at the configured cost.

    Raises:
        errors.ServiceUnavailable: other hashes took all the time.
    """
    hasher = _hasher()  # here, because the pool's threads have no application context
    return _in_pool(lambda: hasher.hash(normalize(password)))


def verify(stored: str | None, password: str, *, decoy: str) -> Match:
    """Return whether, and in which form, `password` matches the hash `stored`.

    A password that is not in NFC takes two verifications, whatever their results. So the time depends on what was sent,
    but not on whether the user exists.

    Args:
        stored: None for an unknown user; then a hash of the kind `decoy` is verified, which takes the same time. So it
            is for a user without a password, and for a hash that is malformed or too expensive. No password matches.

    Raises:
        errors.ServiceUnavailable: other hashes took all the time.
        VerificationUnfinished: the hash itself took too long.
    """
    forms = {Match.NORMALIZED: normalize(password)}
    if forms[Match.NORMALIZED] != password:
        forms[Match.AS_SENT] = password

    def compare() -> Match:
        hidden = _decoy_hash(decoy)  # for known users as well, or its first computation would reveal unknown ones
        known = stored if stored is not None and is_verifiable(stored) else None
        matches = [match for match, form in forms.items() if _matches(known or hidden, form)]
        return matches[0] if matches and known is not None else Match.NONE

    return _in_pool(compare)


def needs_upgrade(stored: str) -> bool:
    """Return whether `stored` is of another kind or cost than new hashes."""
    return not stored.startswith(_ARGON2) or _hasher().check_needs_rehash(stored)


def _matches(stored: str, password: str) -> bool:
    if stored.startswith(_BCRYPT):
        return _matches_bcrypt(stored, password)
    if not stored.startswith(_ARGON2):
        return check_password_hash(stored, password)
    try:
        return PasswordHasher().verify(stored, password)
    except VerificationError:
        return False


def _matches_bcrypt(stored: str, password: str) -> bool:
    # bcrypt reads 72 bytes. Older libraries ignored further ones, where this one raises an exception.
    return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], stored.encode())


def _hasher() -> PasswordHasher:
    settings = config.current()
    return PasswordHasher(time_cost=settings.password_passes, memory_cost=settings.password_memory, parallelism=1)


@lru_cache(maxsize=64)
def _decoy_hash(kind: str) -> str:
    """Return a hash of `kind` that no password matches."""
    algorithm, *cost = kind.split(":")
    password = secrets.token_urlsafe()
    if algorithm == "bcrypt":
        return bcrypt.hashpw(password.encode(), bcrypt.gensalt(int(cost[0]))).decode()
    if algorithm not in _ARGON2_TYPES:
        return generate_password_hash(password, kind)
    memory, passes, lanes = map(int, cost)
    hasher = PasswordHasher(passes, memory, lanes, type=_ARGON2_TYPES[algorithm])
    return hasher.hash(password)


def _in_pool(work: Callable[[], _Result]) -> _Result:
    """Run `work` in one of two threads with low priority, and wait for it.

    A command runs it itself: Ctrl-C while a thread of the pool starts would leave a process that never ends.
    """
    left = db.time_left()
    if left is None:
        return work()
    watch.queue(1)
    future = _pool(os.getpid()).submit(_timed, work)
    future.add_done_callback(lambda _future: watch.queue(-1))
    try:
        return future.result(max(_MIN_TIMEOUT, left - _RESERVED))
    except TimeoutError:
        if future.cancel():
            raise errors.ServiceUnavailable(reason="hash queue slow") from None
        raise VerificationUnfinished(reason="hash slow") from None


def _timed(work: Callable[[], _Result]) -> _Result:
    began = perf_counter()
    try:
        return work()
    finally:
        _hashed.set()
        watch.seconds(perf_counter() - began)


@cache
def _pool(_pid: int) -> ThreadPoolExecutor:
    threading.Thread(target=_release_memory, name="password-memory", daemon=True).start()
    return ThreadPoolExecutor(_POOL_THREADS, "password", _lower_priority)


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere a priority applies to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _release_memory() -> None:
    """Call `watch.idle` after each burst: in it, hashes need their memory."""
    while _hashed.wait():
        while _hashed.is_set():
            _hashed.clear()
            sleep(_IDLE_AFTER)
        watch.idle()
