"""The start of the grace period: delayed rotations and skewed clocks (S6, D4)."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from tests.sessions.service import GRACE_PERIOD
from tests.support.app import create_user
from tokenapp import accounts, sessions
from tokenapp.models import RefreshClaims


def test_grace_period_of_a_delayed_rotation_starts_when_it_is_completed(app: Flask) -> None:
    create_user(app)
    with app.app_context():
        before, now = datetime.now(UTC) - timedelta(seconds=60), datetime.now(UTC)
        grant = sessions.open_session(accounts.find("alice"), before)
        presented = RefreshClaims(grant.sid, grant.jti, 0)
        rotated = sessions.refresh(presented, before)
        assert sessions.refresh(presented, now).jti == rotated.jti


@pytest.mark.parametrize("skew", [-5, 5])
def test_hosts_with_different_clocks_agree_on_a_retry(app: Flask, skew: int) -> None:
    create_user(app)
    with app.app_context():
        now = datetime.now(UTC)
        grant = sessions.open_session(accounts.find("alice"), now)
        there = now + timedelta(seconds=skew)
        lost = sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), there)
        for passed in (0, 10, GRACE_PERIOD - 6):
            retried = sessions.refresh(RefreshClaims(grant.sid, grant.jti, 0), now + timedelta(seconds=passed))
            assert (retried.outcome, retried.jti) == ("grace", lost.jti)
            followed = sessions.refresh(RefreshClaims(grant.sid, lost.jti, 1), there + timedelta(seconds=passed))
            assert (followed.outcome, followed.jti) == ("damped", lost.jti)
