"""gunicorn's configuration, from the settings.

``tokenapp serve`` and a checkout's ``gunicorn.conf.py`` use it. gunicorn's command line overrides each of its settings.
"""

import gc
import logging
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # gunicorn has no types
from sqlalchemy.orm import configure_mappers

from tokenapp import passwords
from tokenapp.config import INSTANCE, ConfigError, env_files, load
from tokenapp.db import schema
from tokenapp.http import logs
from tokenapp.server import allocator, metrics_listener

try:
    env_files.load()
    _settings = load(os.environ, INSTANCE)
except ConfigError as _error:
    sys.exit(str(_error))
allocator.set_up()
passwords.watch.idle = allocator.give_back
logs.set_up(_settings.log_format)
logging.captureWarnings(capture=True)
threading.excepthook = logs.log_thread_exception
if _settings.metrics_bind:
    metrics_listener.prepare()


wsgi_app = "tokenapp.wsgi:app"
bind = _settings.bind
worker_class = "tokenapp.server.worker.Worker"
workers = _settings.web_concurrency
threads = _settings.threads
preload_app = True
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 -- gunicorn's heartbeat files

# Each connection is a file descriptor, and a quarter of them is for everything else.
worker_connections = max(threads + 1, min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4))
timeout = 30
graceful_timeout = 20
# Longer than a proxy keeps idle connections, so that the server never closes one that the proxy is about to use.
keepalive = 75
backlog = 1024
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 16384
proxy_protocol = False
# Headers by which a proxy could change the path of a request (Script-Name) or its scheme are ignored. gunicorn would
# answer contradictory ones, such as X-Forwarded-Proto and X-Forwarded-Ssl, with a 400, and nothing depends on them.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}


class logger_class(Logger):  # type: ignore[misc]  # noqa: N801 -- the name of a setting
    """A logger that writes gunicorn's lines in the format of the application."""

    def setup(self, cfg: Any) -> None:
        """Set the formatter of all handlers, and at least the level INFO."""
        super().setup(cfg)
        # gunicorn's debug lines contain incomplete requests verbatim.
        self.error_log.setLevel(max(self.error_log.level, logging.INFO))
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.setFormatter(logs.Formatter(_settings.log_format))


def on_starting(server: Any) -> None:
    """Start the metrics listener in the master, because it outlives the workers."""
    if _settings.metrics_bind:
        try:
            metrics_listener.serve(_settings.metrics_bind, (server.cfg.uid, server.cfg.gid))
        except OSError as error:
            sys.exit(f"tokenapp cannot start:\n  - TOKENAPP_METRICS_BIND cannot be listened on: {error.strerror}")


def when_ready(_server: Any) -> None:
    """Make the workers share the memory of loaded modules and configured models."""
    configure_mappers()
    gc.collect()
    gc.freeze()


def post_fork(_server: Any, _worker: Any) -> None:
    """Close the metrics listener's socket; leave paths to the application.

    With `SCRIPT_NAME` in its environment, gunicorn would answer requests without that prefix with a 500.
    """
    metrics_listener.close_in_worker()
    os.environ.pop("SCRIPT_NAME", None)


def post_worker_init(worker: Any) -> None:
    """Start the thread that sends mail, and log what is wrong with the tables."""
    # A middleware that mounts the service below a path is not the application itself.
    app: Any = worker.wsgi if hasattr(worker.wsgi, "extensions") else sys.modules["tokenapp.wsgi"].app
    app.extensions.get("tokenapp.mail", lambda: None)()

    def check() -> None:
        with app.app_context():
            schema.log_problem()

    threading.Thread(target=check, name="schema", daemon=True).start()


def child_exit(_server: Any, worker: Any) -> None:
    """Clear the connection count of an exited worker, and merge its metrics."""
    worker.clear_count()
    if _settings.metrics_bind:
        metrics_listener.merge_dead_worker(worker.pid)
