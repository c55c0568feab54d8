"""What exists only with mail: its routes, the notices, and the thread that sends."""

from datetime import UTC, datetime, timedelta
from typing import Final

from tokenapp import audit, notices
from tokenapp.api import address_change, password_reset, personal_data, registration
from tokenapp.config import Settings
from tokenapp.http import metrics
from tokenapp.http.lifecycle import App
from tokenapp.mail import delivery, sender

EXTENSION = "tokenapp.mail"
_REMIND_EVERY: Final = timedelta(minutes=10)


def init_app(app: App, settings: Settings) -> None:
    """Register the routes that the settings allow, and how a worker starts to send."""
    for module in (password_reset, address_change, personal_data):
        app.register_blueprint(module.bp)
    if settings.registration != "closed":
        app.register_blueprint(registration.bp)
    if settings.registration == "open":
        app.register_blueprint(registration.open_bp)
    if (created := app.extensions.get(metrics.EXTENSION)) is not None:
        delivery.watch.count = lambda result: created["tokenapp_mails_total"].labels(result).inc()
    app.variables += ((audit.observer, notices.write),)

    def start() -> None:
        with app.app_context():
            sender.start(_Work().deliver)

    app.extensions[EXTENSION] = start


class _Work:
    """What the thread that sends does: from time to time it also writes reminders."""

    def __init__(self) -> None:
        self._remind_at = datetime.now(UTC)

    def deliver(self, now: datetime) -> bool:
        """Deliver one mail; return whether there was one."""
        if now >= self._remind_at:
            self._remind_at = now + _REMIND_EVERY
            notices.remind(now)
        return delivery.deliver(now)
