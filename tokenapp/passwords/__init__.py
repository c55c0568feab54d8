"""Passwords: the policy for new ones, and their hashes."""

from tokenapp.passwords import policy
from tokenapp.passwords.decoys import kind_for
from tokenapp.passwords.formats import kind_of, unlabelled
from tokenapp.passwords.hashing import Match, VerificationUnfinished, hash_password, needs_upgrade, place, verify, watch

__all__ = [
    "Match",
    "VerificationUnfinished",
    "hash_password",
    "kind_for",
    "kind_of",
    "needs_upgrade",
    "place",
    "policy",
    "unlabelled",
    "verify",
    "watch",
]
