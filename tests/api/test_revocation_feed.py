"""The feed of revoked sessions for services that verify access tokens themselves."""

import pytest
from flask import Flask

from tests.support.app import create_user
from tests.support.client import sign_in
from tests.support.service_clients import ServiceClient, register


def read_all(service: ServiceClient, cursor: str | None) -> tuple[list[str], str, int]:
    """Read the feed from `cursor` to its end.

    Returns the session ids, the next cursor and the number of pages.
    """
    sids: list[str] = []
    pages, more = 0, True
    while more:
        page = service.feed(**({"since": cursor} if cursor else {})).json
        sids += [item["sid"] for item in page["items"]]
        cursor, more, pages = page["cursor"], page["more"], pages + 1
    return sids, cursor or "", pages


def test_feed_has_every_revoked_session(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp.sessions.feed.FEED_PAGE", 3)  # seven sessions are to fill several pages
    create_user(app)
    service = register(app)
    revoked = []
    for _ in range(7):
        client = sign_in(app)
        revoked.append(client.sid)
        client.logout()
    sids, cursor, pages = read_all(service, None)
    assert (sids, pages) == (revoked, 3)
    last = sign_in(app)
    last.logout()
    assert last.sid in read_all(service, cursor)[0]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "since", ["", "x", "1~\x00", "1~a b", "-1~", "1", "99999999999999999~", "\u0661~", "1~" + "x" * 65]
)
def test_malformed_cursor_is_an_invalid_request(app: Flask, since: str) -> None:
    response = register(app).feed(since=since)
    assert (response.status, response.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("since", ["0~", "9999999999999999~", "0000000000000000~zzz"])
def test_well_formed_cursor_is_accepted(app: Flask, since: str) -> None:
    assert register(app).feed(since=since).status == 200
