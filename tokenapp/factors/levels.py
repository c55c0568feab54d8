"""What a sign-in proved, and the authentication level that follows from it."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from tokenapp.sessions.authorization import MULTIPLE

Method = Literal["password", "totp", "recovery_code", "passkey"]
ONE_FACTOR: Final = "1"
TWO_FACTORS: Final = "2"
# In this order, so that the claim does not depend on the order of the steps.
_AMR: Final = ("pwd", "otp", "hwk", "swk", "user", MULTIPLE)
_POSSESSION: Final = frozenset({"otp", "hwk", "swk"})


class Proof(NamedTuple):
    """One thing that a person proved.

    `user_verified` and `device_bound` are about passkeys: the authenticator asked for a PIN or a fingerprint, and the
    key cannot leave the device.
    """

    method: Method
    user_verified: bool = False
    device_bound: bool = False


class Level(NamedTuple):
    """Authentication methods (RFC 8176), and their level: ``2`` for two factors."""

    amr: tuple[str, ...]
    acr: str


PASSWORD: Final = Proof("password")


def assess(*proofs: Proof, held: Sequence[str] = ()) -> Level:
    """Return the level of what was proved.

    Two factors are a password and something that the person has, or a passkey that verified the person. A recovery code
    is something that the person has.

    Args:
        held: the methods by which the session was opened, if `proofs` add to it.
    """
    methods = set(held)
    for proof in proofs:
        methods |= _methods_of(proof)
    if "pwd" in methods and methods & _POSSESSION:
        methods.add(MULTIPLE)
    amr = tuple(method for method in _AMR if method in methods)
    return Level(amr, acr_of(amr))


def acr_of(amr: Sequence[str]) -> str:
    """Return the level of a session with these methods."""
    return TWO_FACTORS if MULTIPLE in amr else ONE_FACTOR


def _methods_of(proof: Proof) -> set[str]:
    if proof.method == "password":
        return {"pwd"}
    if proof.method != "passkey":
        return {"otp"}
    key = "hwk" if proof.device_bound else "swk"
    return {key, "user", MULTIPLE} if proof.user_verified else {key}
