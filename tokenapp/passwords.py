"""Password hashes (argon2id, RFC 9106; Werkzeug's are verified and upgraded), made in a small pool."""

import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Final, TypeVar

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from werkzeug.security import check_password_hash  # the one reader of hashes made by Werkzeug

from tokenapp import config, errors
from tokenapp.password_rule import normalize

_WERKZEUG_METHODS: Final = ("scrypt:", "pbkdf2:")
_POOL_THREADS: Final = 2
_POOL_QUEUE: Final = 40
_NICENESS: Final = 10

_Result = TypeVar("_Result")
_places = threading.BoundedSemaphore(_POOL_THREADS + _POOL_QUEUE)


@dataclass(slots=True)
class Watch:
    """Whom the pool tells how it does: of each password that comes (1) and is done with (-1), and of its seconds."""

    queue: Callable[[int], object] = lambda _change: None
    seconds: Callable[[float], object] = lambda _seconds: None


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
    nobody = _nobodys_hash(hasher.memory_cost, hasher.time_cost)
    return _in_pool(lambda: _matches(stored or nobody, normalize(password)) and stored is not None)


def needs_upgrade(stored: str) -> bool:
    """Whether `stored` was made in another way, or at another cost, than hashes are made now."""
    return stored.startswith(_WERKZEUG_METHODS) or _hasher().check_needs_rehash(stored)


def is_hash(stored: str) -> bool:
    """Whether `stored` is a hash that `verify` can read: argon2 or one of Werkzeug's."""
    try:
        if stored.startswith(_WERKZEUG_METHODS):
            check_password_hash(stored, "")
            return stored.count("$") == 2  # noqa: PLR2004 -- method, salt and hash
        extract_parameters(stored)
        _matches(stored, "")
    except (InvalidHashError, ValueError):
        return False
    return True


def _matches(stored: str, password: str) -> bool:
    if stored.startswith(_WERKZEUG_METHODS):
        return check_password_hash(stored, password)
    try:
        return PasswordHasher().verify(stored, password)
    except VerificationError:
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
    try:
        watch.queue(1)
        return _pool(os.getpid()).submit(_timed, work).result()
    finally:
        watch.queue(-1)
        _places.release()


def _timed(work: Callable[[], _Result]) -> _Result:
    began = perf_counter()
    try:
        return work()
    finally:
        watch.seconds(perf_counter() - began)


@cache
def _pool(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_POOL_THREADS, "password", _lower_priority)


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
