"""Text of the benchmark report around its tables."""

PAGE = """# Benchmarks

After reading this page you know how much CPU time, memory and latency the service needs, compared with other programs.

`make bench` measures and rewrites this page, `results.json` and the plots. Do not edit any of them by hand: a test
compares the page with the figures.

Measured on {date} on {machine}: {rounds} rounds of {seconds} s for each load of each program (sign-ins at
least 3 s), {minutes} minutes in total, sittings: {sittings}; load average at the start {load_before}. Figures are
medians of the rounds. On another machine, or beside other work, the absolute figures will differ: compare the ratios.

## Targets

{targets}

A ratio is the CPU time per request of this service divided by that of the other program in the same round; the table
shows the median of the rounds. How the cost of a rotation grows with the number of sessions is
[measured separately](growth.md).

![CPU time per request](cpu.svg)

{loads}

![Latency](latency.svg)

## Composition of a rotation

{instructions}

Counted by valgrind in one process on SQLite. This excludes the server and the kernel, and therefore most of the disk
access. The first four rows are {floor:.0%} of the textbook program, and cannot be reduced as long as the route is a
Flask view that signs with ES256 and commits each rotation. A quarter of the textbook program would be {quarter:,.0f}
thousand instructions. The server adds the same cost to both programs, so a target for their ratio leaves less than
that for the rest: with S for the cost of the server and T for that of the textbook program, it leaves a quarter of T
minus three quarters of S.

## Many live sessions

{sessions:,} live sessions in this service's SQLite file, and {tokens:,} tokens in the Express program's array.
Refreshes per second on one core: tokenapp **{ours_rate:,.0f}** (true rotations, each on the disk before the response),
Express **{express_rate:,.0f}** (nothing rotated, nothing stored). Memory: {ours_mb:.0f} MB and {express_mb:.0f} MB.

## Sign-ins beside other requests

1,000 protected requests and 10 sign-ins per second for {mixed_seconds} s, with {mixed_workers} workers on two cores,
which they share with the load generator. Times are measured from the moment at which a request was due, whether or not
a connection was free at that moment. All 24 connections are opened at the start, and most of the connections for
sign-ins are idle at first. With gunicorn's own worker class each of these occupied a thread, and the first responses of
the protected route were 0.75 s late.

{mixed}

## Memory

{memory}

Memory is the PSS of the process tree: pages that processes share are counted once. PostgreSQL's memory is not included.
A worker returns the memory for password hashing half a second after the last hash; only then is it idle.

## Start

From the start of gunicorn, with two workers, to the first response of `/healthz`: {healthz:.2f} s; to the first
sign-in: {first_login:.2f} s. The packages that take longest to import:

{imports}

Python function calls for one protected request: {our_calls:,}; the textbook program: {textbook_calls:,}.

## Method, and what cannot be compared

- **Four programs**, all started by the same command and running at the same time. Each is loaded while the others are
  idle. They are: this service as delivered (gunicorn with its own configuration, in development mode because there is
  no TLS); the *textbook* program (flask-jwt-extended with a blocklist table, Flask-SQLAlchemy's ORM); Django REST
  framework with simplejwt, which rotates and blacklists; and a rewrite of the Express program that this service
  replaces.{granian}
- **One core** for the program, with all its processes; wrk with 4 keep-alive connections, and PostgreSQL, on the other.
  Each Python program has one worker process and 4 threads.
- **CPU time** is what the kernel charged to the whole process tree, user and system. PostgreSQL's is listed separately.
  Memory is PSS. wrk measures latency from when it sent a request, so a stall delays the requests that would have been
  sent.
- **Every response counts**: a round in which one was rejected, broken or late by 10 s ends the measurement with an
  error.
- **SQLite** is written by each program as its libraries do by default: the other programs use a rollback journal, this
  service a write-ahead log; all wait for the disk at each commit. A rollback journal costs more, so the rotations of
  the other programs are also measured with our file settings (and `BEGIN IMMEDIATE` in Django), which is a fairer
  comparison of the code.
- **In favour of the others**: Django keeps its connections open and has no middleware and no browsable pages, unlike
  its defaults.
- **Against this service**: it logs each request that changes something, records sign-ins and sign-outs in an audit log,
  counts failed passwords, and sets security headers. The others do none of that.
- **In favour of this service**: the others sign with HS256, but look up a token (flask-jwt-extended) or a user
  (simplejwt) in the database at every protected request. This service does not: it learns of revoked sessions within a
  second.
- **Not comparable**: simplejwt transfers refresh tokens in the body, the others in a cookie. Express keeps everything
  in the memory of one process, and loses it when that process ends.

Versions: {versions}.
"""

# Only printed if its rows exist.
GRANIAN = """
- **The rows *under granian*** are this service with another server and no other change,
  [started as its guide describes](../granian.md). The other Python programs run under gunicorn, and every target is
  evaluated with gunicorn."""

WORDS = {
    "protected": "The protected route",
    "rotation": "Refresh: true rotations",
    "damped": "Refresh without rotation",
    "login": "Sign-in",
    "logout": "Sign-out",
}

NOTES = {
    "protected": """\
256 access tokens, used in turn. Those of this service are signed with ES256 and those of the others with HS256. In the
row marked HS256 this service uses HS256 too. This service caches verified signatures for a while, so most requests skip
the verification. The others verify each time.""",
    "rotation": """\
Each request presents a refresh token that was never used before, and gets its successor. Express is omitted, because it
does not rotate. *Our file settings* means that the other program writes its SQLite file with the settings of this
service.""",
    "damped": """\
The token was created by a rotation less than 30 seconds ago, as with many tabs at once. In Express it is any refresh,
with 1,000 tokens in its array. The other two rotate at every refresh.""",
    "login": """\
All programs except Express verify argon2id with 19 MiB, two passes and one lane, which is nearly all of the cost.
Express compares the password as plain text, so its figures do not show the cost of signing in.""",
    "logout": """\
This service revokes the session and records that in the audit log. The other two put the refresh token on their list,
and the access tokens stay valid. Express looks for a token that is not in its array of 1,000.""",
}
