"""How gunicorn serves us; any line can be overruled on its command line."""

import gc
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # gunicorn has no types
from sqlalchemy.orm import configure_mappers

from tokenapp import passwords
from tokenapp.config import INSTANCE, ConfigError, load
from tokenapp.http import logs
from tokenapp.server import allocator, metrics_listener

try:
    _settings = load(os.environ, INSTANCE)
except ConfigError as _fault:
    sys.exit(str(_fault))
allocator.set_up()
passwords.watch.idle = allocator.give_back
logs.set_up(_settings.log_format)
logging.captureWarnings(capture=True)
threading.excepthook = logs.note_thread_fault
if _settings.metrics_bind:
    metrics_listener.prepare()


wsgi_app = "wsgi:app"
# In development there is a demo user whose password everybody knows: that one stays on this machine.
bind = _settings.bind or f"127.0.0.1:{_settings.port}"
worker_class = "tokenapp.server.worker.Worker"
workers = _settings.web_concurrency
threads = _settings.threads
preload_app = True
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 -- gunicorn's heartbeat files

timeout = 30
graceful_timeout = 20
# Longer than a proxy keeps its idle connections, so that it is never we who close one that is about to be used.
keepalive = 75
backlog = 1024
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 16384
forwarded_allow_ips = ",".join(_settings.trusted_proxies) or "255.255.255.255"
proxy_protocol = False
# Headers such as Script-Name, by which a proxy could change the path of a request, are ignored.
forwarder_headers = ""


class logger_class(Logger):  # type: ignore[misc]  # noqa: N801 -- likewise; and a setting's name
    """gunicorn's own lines, from the very first, look like ours."""

    def setup(self, cfg: Any) -> None:
        """Change the format of whatever gunicorn was told to write to; it must not tell what requests hold."""
        super().setup(cfg)
        # In debug lines it shows requests that are cut off, as they came.
        self.error_log.setLevel(max(self.error_log.level, logging.INFO))
        for log in (self.error_log, self.access_log):
            for handler in log.handlers:
                handler.setFormatter(logs.formatter(_settings.log_format))


def on_starting(server: Any) -> None:
    """Serve the metrics from here, the one process that outlives the workers."""
    if _settings.metrics_bind:
        try:
            metrics_listener.serve(_settings.metrics_bind, (server.cfg.uid, server.cfg.gid))
        except OSError as fault:
            sys.exit(f"tokenapp cannot start:\n  - TOKENAPP_METRICS_BIND cannot be listened on: {fault.strerror}")


def when_ready(_server: Any) -> None:
    """Keep what was loaded, and what the models come to at their first use, in memory that the workers share."""
    configure_mappers()
    gc.collect()
    gc.freeze()


def post_fork(_server: Any, _worker: Any) -> None:
    """Leave the metrics' address to the master."""
    metrics_listener.leave()


def child_exit(_server: Any, worker: Any) -> None:
    """Keep what a worker has counted, and count its connections no more."""
    worker.leave()
    if _settings.metrics_bind:
        metrics_listener.bury(worker.pid)
