"""Signing keys: generated, rotated, retired, and stored encrypted."""

from tokenapp.keys import lifecycle
from tokenapp.keys.keyring import Keyring, cached, current, find, load, public_set
from tokenapp.keys.material import ALGORITHMS, USES, Alg, Key, Use, read_pem, thumbprint

__all__ = [
    "ALGORITHMS",
    "USES",
    "Alg",
    "Key",
    "Keyring",
    "Use",
    "cached",
    "current",
    "find",
    "lifecycle",
    "load",
    "public_set",
    "read_pem",
    "thumbprint",
]
