"""Second factors: enrolled, checked, used once, and never the last way in.

pyotp and segno are imported only when an authenticator app is used.
"""

from tokenapp.factors import pending, setup
from tokenapp.factors.checks import METHODS, Answer, Checked, check
from tokenapp.factors.levels import PASSWORD, Level, Proof, assess

__all__ = [
    "METHODS",
    "PASSWORD",
    "Answer",
    "Checked",
    "Level",
    "Proof",
    "assess",
    "check",
    "pending",
    "setup",
]
