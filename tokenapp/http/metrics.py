"""Define the Prometheus metrics, and update them at the end of each request.

They are off unless TOKENAPP_METRICS_BIND is set. While they are off, prometheus_client is not imported and requests
have no extra cost.
"""

import logging
import os
import platform
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, NamedTuple

from flask import Flask, Request, Response, g, request

from tokenapp import access_keys, errors, keys, passwords
from tokenapp.http import logs
from tokenapp.http.principal import RequestState
from tokenapp.sessions import revocation_list

REFRESHES: Final = (
    *("rotated", "damped", "grace"),
    *("reuse", "expired", "revoked", "ahead", "unproved", "missing", "invalid", "unavailable"),
)
EVIDENCE: Final = ("unbound", "proved", "new", "skipped", "late", "missing")
SIGN_INS: Final = ("success", "invalid", "throttled", "refused", "unavailable")
_REFRESH_CODES: Final = {"refresh_token_missing": "missing", "refresh_token_expired": "expired"}
_SIGN_IN_CODES: Final = {"invalid_credentials": "invalid", "too_many_attempts": "throttled"}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_HASH_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SAMPLE_INTERVAL: Final = 0.5
EXTENSION: Final = "tokenapp.metrics"  # the metrics by name, for what is loaded later
log = logging.getLogger(__name__)


class Metric(NamedTuple):
    """The definition of a metric.

    `over_workers` is how the values of a gauge in the running workers are combined.
    """

    kind: str
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    over_workers: str = ""


METRICS: Final = (
    Metric("Counter", "tokenapp_refreshes_total", "Refresh tokens presented, by outcome.", ("outcome",)),
    Metric(
        "Counter",
        "tokenapp_refreshes_elsewhere_total",
        "Repeated refresh tokens from another network and another browser than the rotation's.",
    ),
    Metric(
        "Counter",
        "tokenapp_bound_refreshes_total",
        "Refreshes while sessions are bound to devices, by what they show of the device.",
        ("evidence",),
    ),
    Metric("Counter", "tokenapp_sign_ins_total", "Sign-in attempts, by result.", ("result",)),
    Metric("Counter", "tokenapp_mails_total", "Attempts to send a mail, by result.", ("result",)),
    Metric(
        "Histogram",
        "tokenapp_request_seconds",
        "Time from a request's arrival in a worker to its response.",
        labels=("route", "method", "status"),
        buckets=_REQUEST_BUCKETS,
    ),
    Metric(
        "Histogram", "tokenapp_hash_seconds", "Time to hash one password, excluding the queue.", buckets=_HASH_BUCKETS
    ),
    Metric("Gauge", "tokenapp_hash_queue", "Passwords that are being hashed or are queued.", over_workers="livesum"),
    Metric(
        "Gauge",
        "tokenapp_signing_keys",
        "Signing keys that sign or verify tokens.",
        labels=("use", "state"),
        over_workers="livemostrecent",
    ),
    Metric(
        "Gauge", "tokenapp_revoked_sessions_known", "Session ids on a worker's revocation list.", over_workers="livemax"
    ),
    Metric(
        "Gauge",
        "tokenapp_revoked_sessions_read_timestamp_seconds",
        "When a worker last read the revocation list.",
        over_workers="livemax",
    ),
    Metric("Gauge", "tokenapp_build_info", "Always 1.", labels=("version", "python"), over_workers="livemax"),
)


def init_app(app: Flask, version: str) -> None:
    """Count the requests of `app`, if the server has a metrics folder."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return
    created = {metric.name: _make(metric) for metric in METRICS}
    created["tokenapp_build_info"].labels(version, platform.python_version()).set(1)
    app.extensions[EXTENSION] = created
    passwords.watch.queue = created["tokenapp_hash_queue"].inc
    passwords.watch.seconds = created["tokenapp_hash_seconds"].observe
    count_request = _request_counter(created["tokenapp_request_seconds"])
    refreshes = {outcome: created["tokenapp_refreshes_total"].labels(outcome) for outcome in REFRESHES}
    sign_ins = {result: created["tokenapp_sign_ins_total"].labels(result) for result in SIGN_INS}
    evidence = {each: created["tokenapp_bound_refreshes_total"].labels(each) for each in EVIDENCE}
    elsewhere = created["tokenapp_refreshes_elsewhere_total"]
    sample = _sampler(created)

    @app.after_request
    def count(response: Response) -> Response:
        try:
            state: RequestState = g.state
            count_request(request, perf_counter() - state.began, response.status_code)
            if request.method == "POST" and request.endpoint == "auth.refresh" and not _presents_key(request):
                refreshes[_refresh_outcome(state)].inc()
                if state.grant is not None and state.grant.elsewhere:
                    elsewhere.inc()
                shown = _evidence(state)
                if shown is not None:
                    evidence[shown].inc()
            elif request.method == "POST" and request.endpoint == "auth.login":
                sign_ins[_sign_in_result(state)].inc()
            sample(state.began)
        except Exception:
            log.exception("a request was not counted")  # the response is still sent
        return response


def _make(metric: Metric) -> Any:
    """Create a prometheus_client metric without a registry.

    The listener reads the values from the shared files.
    """
    import prometheus_client  # noqa: PLC0415 -- it reads the folder's path at import

    options: dict[str, Any] = {"registry": None}
    if metric.buckets:
        options["buckets"] = metric.buckets
    if metric.over_workers:
        options["multiprocess_mode"] = metric.over_workers
    return getattr(prometheus_client, metric.kind)(metric.name, metric.help, metric.labels, **options)


def _request_counter(seconds: Any) -> Callable[[Request, float, int], None]:
    """Return the function that records the duration of a request.

    The label is the route, not the path, so that clients cannot create labels.
    """
    timers: dict[tuple[str, str, int], Any] = {}

    def count(current: Request, duration: float, status: int) -> None:
        route = logs.route(current.url_rule.rule) if current.url_rule is not None else "unknown"
        label = (route, current.method if current.method in _METHODS else "other", status // 100)
        timer = timers.get(label)
        if timer is None:
            timer = timers[label] = seconds.labels(*label[:2], f"{label[2]}xx")
        timer.observe(duration)

    return count


def _sampler(created: dict[str, Any]) -> Callable[[float], None]:
    """Return the function that updates the gauges for keys and the revocation list."""
    live_keys, size = created["tokenapp_signing_keys"], created["tokenapp_revoked_sessions_known"]
    read_at = created["tokenapp_revoked_sessions_read_timestamp_seconds"]
    due = 0.0

    def sample(moment: float) -> None:
        nonlocal due
        if moment < due:
            return
        ring, listed = keys.cached(), revocation_list.state()
        if ring is None:
            return
        due = moment + _SAMPLE_INTERVAL
        for use in keys.USES:
            live_keys.labels(use, "signing").set(1)
            live_keys.labels(use, "verifying").set(sum(key.use == use for key in ring.by_kid.values()) - 1)
        if listed is not None:
            size.set(listed[0])
            read_at.set(listed[1].timestamp())

    return sample


def _presents_key(current: Request) -> bool:
    """Return whether a request presents an access key, which is no refresh token."""
    return access_keys.PREFIX in current.environ.get("HTTP_AUTHORIZATION", "")


def _refresh_outcome(state: RequestState) -> str:
    error = state.error
    if error is None:
        return str(state.grant.outcome) if state.grant is not None else "unavailable"
    if error.status >= errors.InternalError.status:
        return "unavailable"
    return error.outcome or _REFRESH_CODES.get(error.code, "invalid")


def _evidence(state: RequestState) -> str | None:
    """Return what a refresh showed of the device, if sessions are bound."""
    if state.error is None:
        return state.grant.evidence if state.grant is not None else None
    return {"unproved": "missing", "late": "late"}.get(state.error.outcome or "")


def _sign_in_result(state: RequestState) -> str:
    error = state.error
    if error is None:
        return "success"
    if error.status >= errors.InternalError.status:
        return "unavailable"
    return _SIGN_IN_CODES.get(error.code, "refused")
