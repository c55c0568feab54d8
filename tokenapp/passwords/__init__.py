"""Passwords: the policy for new ones, and their hashes."""

from tokenapp.passwords import policy
from tokenapp.passwords.hashing import VerificationUnfinished, hash_password, is_hash, needs_upgrade, verify, watch

__all__ = ["VerificationUnfinished", "hash_password", "is_hash", "needs_upgrade", "policy", "verify", "watch"]
