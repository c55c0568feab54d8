"""Hash and verify passwords (argon2id, RFC 9106) in a small pool of threads.

Hashes made by Werkzeug are verified too, so that they can be upgraded.
"""

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
from werkzeug.security import check_password_hash  # verifies the hashes that Werkzeug makes

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
_RESERVED: Final = 1.0  # seconds of the request that are left to the database
_MIN_TIMEOUT: Final = 0.05
_IDLE_AFTER: Final = 0.5  # seconds without a hash that end a burst

_Result = TypeVar("_Result")
_slots = threading.BoundedSemaphore(_POOL_THREADS + _POOL_QUEUE)
_hashed = threading.Event()


@dataclass(slots=True)
class Watch:
    """Callbacks of the pool, for metrics and the memory allocator.

    `queue` gets 1 for each password that enters the queue and -1 for each that leaves it. `seconds` gets the duration
    of each hash. `idle` is called after a burst of hashes.
    """

    queue: Callable[[int], object] = lambda _change: None
    seconds: Callable[[float], object] = lambda _seconds: None
    idle: Callable[[], object] = lambda: None


watch: Final = Watch()


def hash_password(password: str) -> str:
    """Hash `password` at the cost in the settings.

    Raises:
        errors.ServiceUnavailable: too many passwords are waiting to be hashed.
    """
    hasher = _hasher()  # here, because the pool's threads have no application context
    return _in_pool(lambda: hasher.hash(normalize(password)))


def verify(stored: str | None, password: str) -> bool:
    """Return whether `password` matches `stored`; return False for None.

    None, for unknown users, takes the same time as a hash.

    Raises:
        errors.ServiceUnavailable: too many passwords are waiting to be hashed.
    """
    hasher = _hasher()

    def compare() -> bool:
        # Get the decoy for known users too: otherwise the time of its creation would reveal an unknown one.
        decoy = _decoy_hash(hasher.memory_cost, hasher.time_cost)
        return _matches(stored or decoy, normalize(password)) and stored is not None

    return _in_pool(compare)


def needs_upgrade(stored: str) -> bool:
    """Return whether `stored` has another algorithm or cost than new hashes."""
    return stored.startswith(_WERKZEUG_METHODS) or _hasher().check_needs_rehash(stored)


def is_hash(stored: str) -> bool:
    """Return whether `stored` is a hash that sign-in can verify, by its format only.

    A hash with an extreme cost (over 1 GiB, or ten million rounds) is rejected: verifying it would starve other
    requests.
    """
    if match := _ARGON2.fullmatch(stored):
        memory, passes, lanes = (int(match[group]) for group in (1, 2, 3))
        fits = passes >= 1 and lanes >= 1 and 8 * lanes <= memory <= _MAX_HASH_MEMORY // 1024
        return fits and _is_base64(match[4]) and _is_base64(match[5])
    if match := _SCRYPT.fullmatch(stored):
        rounds, block, lanes = (int(match[group]) for group in (1, 2, 3))
        # From 1024 rounds on, the memory limit that Werkzeug sets is what OpenSSL needs.
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
    """Return whether `text` is canonical base64 without padding, as argon2 requires."""
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4))).decode().rstrip("=") == text
    except ValueError:
        return False


def _hasher() -> PasswordHasher:
    settings = config.current()
    return PasswordHasher(time_cost=settings.password_passes, memory_cost=settings.password_memory, parallelism=1)


@cache
def _decoy_hash(memory: int, passes: int) -> str:
    return PasswordHasher(time_cost=passes, memory_cost=memory, parallelism=1).hash(secrets.token_urlsafe())


def _in_pool(work: Callable[[], _Result]) -> _Result:
    """Run `work` in the pool and return its result.

    At most two hashes are computed at a time, at low priority, so that hashing does not starve the other routes.
    """
    if not _slots.acquire(blocking=False):
        raise errors.ServiceUnavailable(reason="hash queue full")
    watch.queue(1)
    future = _pool(os.getpid()).submit(_timed, work)
    future.add_done_callback(_leave_queue)  # also after a timeout below
    left = db.time_left()
    try:
        return future.result(None if left is None else max(_MIN_TIMEOUT, left - _RESERVED))
    except TimeoutError:
        future.cancel()
        raise errors.ServiceUnavailable(reason="hash queue slow") from None


def _leave_queue(_future: object) -> None:
    watch.queue(-1)
    _slots.release()


def _timed(work: Callable[[], _Result]) -> _Result:
    began = perf_counter()
    try:
        return work()
    finally:
        _hashed.set()
        watch.seconds(perf_counter() - began)


@cache
def _pool(_pid: int) -> ThreadPoolExecutor:
    threading.Thread(target=_report_idle, name="password-memory", daemon=True).start()
    return ThreadPoolExecutor(_POOL_THREADS, "password", _lower_priority)


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere a priority applies to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _report_idle() -> None:
    """Call `watch.idle` after each burst of hashes.

    It releases the memory for hashes, which would slow down hashes within a burst. This thread has normal priority: no
    other thread can allocate memory in the 2 or 3 milliseconds that the release takes.
    """
    while _hashed.wait():
        while _hashed.is_set():
            _hashed.clear()
            sleep(_IDLE_AFTER)
        watch.idle()
