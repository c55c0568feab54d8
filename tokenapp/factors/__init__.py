"""Second factors: enrolled, checked, used once, and never the last way in.

pyotp and segno are imported only when an authenticator app is used.
"""

from tokenapp.factors import pending, setup
from tokenapp.factors.checks import METHODS, Answer, Checked, check
from tokenapp.factors.levels import PASSWORD, Level, Proof, acr_of, assess
from tokenapp.factors.registry import require_level

__all__ = [
    "METHODS",
    "PASSWORD",
    "Answer",
    "Checked",
    "Level",
    "Proof",
    "acr_of",
    "assess",
    "check",
    "pending",
    "require_level",
    "setup",
]
