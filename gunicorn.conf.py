"""How gunicorn serves us; any line can be overruled on its command line."""

import gc
import logging
import os
from pathlib import Path
from select import select
from typing import Any

import msgspec
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]  # it has none

from tokenapp.config import INSTANCE, load

_settings = load(os.environ, INSTANCE)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threaded worker, which answers those who stand at the door when it is told to stop.

    Left to itself it keeps the door open until its last request is done, lets in nobody, and hangs up on all of them.
    """

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 -- gunicorn's signature
        """Take new connections, or no more; at the end, those that wait already are the last."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                for _ in range(self.cfg.backlog):
                    if not select([listener], [], [], 0)[0]:
                        break
                    self.accept(listener)
                listener.close()


wsgi_app = "wsgi:app"
# In development there is a demo user whose password everybody knows: that one stays on this machine.
bind = f"{'0.0.0.0' if _settings.production else '127.0.0.1'}:{_settings.port}"  # noqa: S104 -- a proxy or a firewall stands before it
worker_class = Worker
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


def on_starting(server: Any) -> None:
    """Let gunicorn's own lines go through the application's log."""
    server.log.error_log.handlers = []
    server.log.error_log.propagate = True
    logging.getLogger("gunicorn.access").disabled = True


def when_ready(_server: Any) -> None:
    """Finish what was loaded, and keep it in memory that the workers share."""
    # msgspec prepares a type when it first reads one, and crashes the process when two threads do so at once.
    for kind in msgspec.Struct.__subclasses__():
        msgspec.json.Decoder(kind)
    gc.collect()
    gc.freeze()
