"""Password hashes (argon2id, RFC 9106; Werkzeug's are verified and upgraded), made in a small pool."""

import base64
import hashlib
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from time import perf_counter, sleep
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from werkzeug.security import check_password_hash  # the one reader of hashes made by Werkzeug

from tokenapp import config, db, errors
from tokenapp.passwords.policy import normalize

_WERKZEUG_METHODS: Final = ("scrypt:", "pbkdf2:")
_ARGON2: Final = re.compile(
    r"\$argon2(?:id|i|d)\$(?:v=(?:16|19)\$)?m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})",
    re.ASCII,
)
_SCRYPT: Final = re.compile(r"scrypt:(\d{4,7}):(\d{1,2}):(\d{1,2})\$[!-#%-~]{1,64}\$[0-9a-f]{128}", re.ASCII)
_PBKDF2: Final = re.compile(r"pbkdf2:(sha1|sha256|sha512):([1-9]\d{0,6})\$[!-#%-~]{1,64}\$([0-9a-f]+)", re.ASCII)
_MAX_HASH_MEMORY: Final = 1 << 30
_POOL_THREADS: Final = 2
_POOL_QUEUE: Final = 40
_NICENESS: Final = 10
_RESERVE: Final = 1.0  # seconds of the request that are kept for the database
_MIN_PATIENCE: Final = 0.05
_REST: Final = 0.5  # seconds without a hash, after which the memory for hashes is given back

_Result = TypeVar("_Result")
_places = threading.BoundedSemaphore(_POOL_THREADS + _POOL_QUEUE)
_hashed = threading.Event()


class VerificationUnfinished(errors.ServiceUnavailable):
    """The hash was started and not finished in time. It counts as an attempt."""


@dataclass(slots=True)
class Watch:
    """Functions that the pool calls.

    `queue` gets 1 and -1 as passwords come and go, `seconds` the time of each hash; `idle` is called after a burst.
    """

    queue: Callable[[int], object] = lambda _change: None
    seconds: Callable[[float], object] = lambda _seconds: None
    idle: Callable[[], object] = lambda: None


watch: Final = Watch()


def hash_password(password: str) -> str:
    """Hash `password` at the cost that is set.

    Raises:
        errors.ServiceUnavailable: too many passwords are waiting to be hashed.
    """
    hasher = _hasher()  # the pool's threads know no application
    return _in_pool(lambda: hasher.hash(normalize(password)))


def verify(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored`; for None, take the same time and say no.

    Raises:
        errors.ServiceUnavailable: too many passwords are waiting to be hashed.
    """
    hasher = _hasher()

    def compare() -> bool:
        nobody = _nobodys_hash(hasher.memory_cost, hasher.time_cost)  # for everybody, or its first making would tell
        return _matches(stored or nobody, normalize(password)) and stored is not None

    return _in_pool(compare)


def needs_upgrade(stored: str) -> bool:
    """Whether `stored` was made in another way, or at another cost, than hashes are made now."""
    return stored.startswith(_WERKZEUG_METHODS) or _hasher().check_needs_rehash(stored)


def is_hash(stored: str) -> bool:
    """Whether `stored` is a hash that sign-in can verify, told from its form: thousands are checked in no time.

    A hash that names a cost beyond all reason (a gibibyte, ten million rounds) is none: its sign-in would harm others.
    """
    if match := _ARGON2.fullmatch(stored):
        memory, passes, lanes = (int(match[group]) for group in (1, 2, 3))
        fits = passes >= 1 and lanes >= 1 and 8 * lanes <= memory <= _MAX_HASH_MEMORY // 1024
        return fits and _is_base64(match[4]) and _is_base64(match[5])
    if match := _SCRYPT.fullmatch(stored):
        rounds, block, lanes = (int(match[group]) for group in (1, 2, 3))
        # From 1024 rounds on, the memory that Werkzeug allows is what OpenSSL needs.
        return rounds.bit_count() == 1 and 0 < 128 * rounds * block * lanes <= _MAX_HASH_MEMORY
    if match := _PBKDF2.fullmatch(stored):
        return len(match[3]) == 2 * hashlib.new(match[1]).digest_size
    return False


def _matches(stored: str, password: str) -> bool:
    if stored.startswith(_WERKZEUG_METHODS):
        return check_password_hash(stored, password)
    try:
        return PasswordHasher().verify(stored, password)
    except VerificationError:
        return False


def _is_base64(text: str) -> bool:
    """Whether `text` is base64 without padding, and the one spelling of its bytes, as the argon2 library insists."""
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4))).decode().rstrip("=") == text
    except ValueError:
        return False


def _hasher() -> PasswordHasher:
    settings = config.current()
    return PasswordHasher(time_cost=settings.password_passes, memory_cost=settings.password_memory, parallelism=1)


@cache
def _nobodys_hash(memory: int, passes: int) -> str:
    return PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=1).hash(secrets.token_urlsafe())


def _in_pool(work: Callable[[], _Result]) -> _Result:
    """Run `work` among at most two at a time, at low priority: hashing must not starve the other routes."""
    if not _places.acquire(blocking=False):
        raise errors.ServiceUnavailable(reason="hash queue full")
    watch.queue(1)
    future = _pool(os.getpid()).submit(_timed, work)
    future.add_done_callback(_leave_queue)  # also where nobody waits for it any more
    left = db.time_left()
    try:
        return future.result(None if left is None else max(_MIN_PATIENCE, left - _RESERVE))
    except TimeoutError:
        if future.cancel():
            raise errors.ServiceUnavailable(reason="hash queue slow") from None
        raise VerificationUnfinished(reason="hash slow") from None


def _leave_queue(_future: object) -> None:
    watch.queue(-1)
    _places.release()


def _timed(work: Callable[[], _Result]) -> _Result:
    began = perf_counter()
    try:
        return work()
    finally:
        _hashed.set()
        watch.seconds(perf_counter() - began)


@cache
def _pool(_pid: int) -> ThreadPoolExecutor:
    threading.Thread(target=_tidy_up, name="password-memory", daemon=True).start()
    return ThreadPoolExecutor(_POOL_THREADS, "password", _lower_priority)


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _tidy_up() -> None:
    """Give back the memory for hashes after each burst of them, never in it: a hash is dearer without.

    Not at low priority: nobody else gets memory in the 2 or 3 milliseconds that this takes.
    """
    while _hashed.wait():
        while _hashed.is_set():
            _hashed.clear()
            sleep(_REST)
        watch.idle()
