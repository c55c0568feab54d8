"""User accounts: created, found, given new passwords, disabled, renamed, deleted."""

from tokenapp.accounts.creation import NewUser, add_all, check, create, draft, taken
from tokenapp.accounts.credentials import change_password, set_password, upgrade_hash
from tokenapp.accounts.deletion import delete
from tokenapp.accounts.finding import find, get, get_active, list_users, names_of, with_unverifiable_hash
from tokenapp.accounts.names import MAX_USERNAME, canonical, check_username
from tokenapp.accounts.state import disable, enable, rename, unlock

__all__ = [
    "MAX_USERNAME",
    "NewUser",
    "add_all",
    "canonical",
    "change_password",
    "check",
    "check_username",
    "create",
    "delete",
    "disable",
    "draft",
    "enable",
    "find",
    "get",
    "get_active",
    "list_users",
    "names_of",
    "rename",
    "set_password",
    "taken",
    "unlock",
    "upgrade_hash",
    "with_unverifiable_hash",
]
