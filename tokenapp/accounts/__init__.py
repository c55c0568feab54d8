"""User accounts: created, found, given new passwords, disabled, renamed, deleted."""

from tokenapp.accounts.addresses import check_address, check_form, domain_of, is_deliverable
from tokenapp.accounts.changes import end_links, end_links_since, set_address
from tokenapp.accounts.creation import BATCH, NewUser, add, add_all, check, check_free, create, draft, taken
from tokenapp.accounts.credentials import (
    change_password,
    hash_new,
    remove_password,
    replace_temporary,
    reset_password,
    set_password,
    upgrade_hash,
)
from tokenapp.accounts.deletion import delete
from tokenapp.accounts.finding import find, get, get_active, list_users, names_of, with_unverifiable_hash
from tokenapp.accounts.login_names import by_name, named
from tokenapp.accounts.names import MAX_USERNAME, canonical, check_username
from tokenapp.accounts.roles import add_role, check_role, remove_role
from tokenapp.accounts.state import disable, enable, rename, unlock

__all__ = [
    "BATCH",
    "MAX_USERNAME",
    "NewUser",
    "add",
    "add_all",
    "add_role",
    "by_name",
    "canonical",
    "change_password",
    "check",
    "check_address",
    "check_form",
    "check_free",
    "check_role",
    "check_username",
    "create",
    "delete",
    "disable",
    "domain_of",
    "draft",
    "enable",
    "end_links",
    "end_links_since",
    "find",
    "get",
    "get_active",
    "hash_new",
    "is_deliverable",
    "list_users",
    "named",
    "names_of",
    "remove_password",
    "remove_role",
    "rename",
    "replace_temporary",
    "reset_password",
    "set_address",
    "set_password",
    "taken",
    "unlock",
    "upgrade_hash",
    "with_unverifiable_hash",
]
