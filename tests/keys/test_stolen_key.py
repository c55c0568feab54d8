"""Retire a stolen key at once, over several workers, as the guide describes it."""

import re
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from tests.conftest import Servers
from tests.keys.conftest import DELAY, FAST, SQLITE
from tests.support.app import ROOT, application, create_user
from tests.support.client import Client, sign_in
from tests.support.commandline import run
from tests.support.forge import kid_of


def everywhere(client: Client) -> set[int]:
    """Call so often that every worker responds; return the statuses."""
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda _: client.protected().status, range(48)))


def test_tokens_of_a_retired_access_key_are_rejected_by_every_worker_within_the_delay(
    database_url: str, serve: Servers
) -> None:
    with application(database_url, **FAST) as app:
        create_user(app)
        client = sign_in(serve(database_url, **FAST).port)
        assert everywhere(client) == {200}
        stolen = kid_of(client.token or "")
        retired = run(app, "keys", "retire", "--now", "--yes", stolen)
        assert retired.stdout == f"Retired {stolen}. This invalidated the tokens of 1 session.\n"
        sleep(DELAY)
        assert everywhere(client) == {403}
        assert client.refresh().status == 200
        assert everywhere(client) == {200}


def commands_of_the_guide() -> list[str]:
    """Return the commands that the guide lists for a stolen key."""
    text = (ROOT / "docs/keys.md").read_text()
    block = re.search(r"^<!-- drill -->\n```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block
    return block[1].splitlines()


@pytest.mark.parametrize("use", ["access", "refresh"])
@SQLITE
def test_commands_of_the_guide_replace_a_stolen_key(database_url: str, serve: Servers, use: str) -> None:
    with application(database_url, **FAST) as app:
        create_user(app)
        client = sign_in(serve(database_url, **FAST).port)
        stolen = kid_of((client.token if use == "access" else client.cookie) or "")
        shown = ""
        for line in commands_of_the_guide():
            program, *arguments = line.replace("KID", stolen).split("#")[0].split()
            assert program == "flask"
            shown += run(app, *arguments).stdout
    assert f"Retired {stolen}. This invalidated the tokens of 1 session." in shown
    assert f"{use}\t{stolen}" in shown
    sleep(DELAY)
    assert everywhere(client) == {403}
    assert client.refresh().status == (200 if use == "access" else 403)
    again = sign_in(client.target)
    assert stolen not in {kid_of(again.token or ""), kid_of(again.cookie or "")}
