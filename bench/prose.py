"""What the report says round its tables."""

PAGE = """# Benchmarks

Made by `make bench`, which measures anew and rewrites this page, `results.json` and the plots. Change none of them by
hand: a test holds the page to the figures.

Measured on {date} on {machine}: {rounds} rounds of {seconds} s for each load of each program (sign-ins 3 s at
least), {minutes} minutes in all, sittings: {sittings}; load average before it {load_before}. Figures are
medians of the rounds. On another machine, or beside other work, the absolute ones will differ: go by the
ratios.

## Targets

{targets}

Ratios are of CPU time per request, ours over theirs in the same round; their median. How the cost of a rotation grows
with the number of sessions is measured apart.

![CPU time per request](cpu.svg)

{loads}

![Latency](latency.svg)

## What a rotation is made of

{instructions}

Counted by valgrind in one process on SQLite, which sees neither the server nor the kernel's part, the disk above all.
The first four rows are {floor:.0%} of the textbook way, and cannot be made smaller as long as this is a Flask view that
signs with ES256 and commits each rotation. A quarter of the textbook way would be {quarter:,.0f} thousand; and the
server comes on top of both programs alike, so that a target for the ratio of the two leaves less than that for all
else: with S for the server's part and T for the textbook way, a quarter of T less three quarters of S.

## A crowd

{sessions:,} live sessions in this service's SQLite file, and {tokens:,} tokens in the Express program's array.
Refreshes a second on one core: tokenapp **{ours_rate:,.0f}** (true rotations, each on the disk before it is answered),
Express **{express_rate:,.0f}** (nothing rotated, nothing stored). Memory: {ours_mb:.0f} MB and {express_mb:.0f} MB.

## Sign-ins beside requests

1,000 protected requests and 10 sign-ins a second for {mixed_seconds} s, with {mixed_workers} workers on two cores,
which they share with the program that sends. Times count from when a request was due, whether or not a connection
was free then. All 24 connections are opened at the start, and most of those for sign-ins wait for their turn then;
under gunicorn's own worker each of these held a thread, and the first answers of the protected route came 0.75 s late.

{mixed}

## Memory

{memory}

PSS of the process tree: pages that processes share are counted once. PostgreSQL's is not in it. A worker gives the
memory for hashes back half a second after the last of them; only then is it idle.

## Start

From the start of gunicorn, with two workers, to the first answer of `/healthz`: {healthz:.2f} s; to the first sign-in:
{first_login:.2f} s. What takes longest to import:

{imports}

Python function calls for one protected request: {our_calls:,}; the textbook way {textbook_calls:,}.

## What is measured, and what is not alike

- **Four programs**, all started by the same command and running at the same time, each loaded while the others are
  idle: this service as it comes (gunicorn with its own configuration, in development mode for want of TLS); *the
  textbook way* (flask-jwt-extended with a blocklist table, Flask-SQLAlchemy's ORM); Django REST framework with
  simplejwt, which rotates and blacklists; and the Express program that this service replaces, written anew.{granian}
- **One core** for the program, with all its processes; wrk with 4 kept connections, and PostgreSQL, on the other. One
  worker process and 4 threads for each Python program.
- **CPU time** is what the kernel charged to the whole process tree, user and system. PostgreSQL's is given apart.
  Memory is PSS. wrk counts latencies from when it sent a request, so a stall delays what would have been sent.
- **Every answer counts**: a round in which one was refused, broken or late by 10 s ends the measurement with an
  error.
- **SQLite** is written by each program as its libraries do by default: theirs with a rollback journal, ours with a
  write-ahead log; all wait for the disk at each commit. Theirs costs more, so their rotations are measured once more
  with our file settings (and `BEGIN IMMEDIATE` in Django): the fairer comparison of code.
- **Kinder to the others than their defaults**: Django keeps its connections open and has no middleware and no
  browsable pages.
- **Harder on us**: this service writes a log line for each request that changes something, records sign-ins and
  sign-outs in an audit trail, counts failed passwords, and sets security headers. The others do none of that.
- **Kinder to us**: the others sign with HS256 but look a token (flask-jwt-extended) or a user (simplejwt) up in the
  database at every protected request. This service does not: it learns of ended sessions within a second.
- **Not alike**: simplejwt takes and gives refresh tokens in the body, the others in a cookie. Express keeps
  everything in the memory of one process, and forgets it when that ends.

Versions: {versions}.
"""

# Where its rows are.
GRANIAN = """
- **The rows *under granian*** are this service once more, with nothing changed but the server before it,
  [started as its guide says](../granian.md). The other Python programs stay under gunicorn, and every target is
  judged there."""

WORDS = {
    "protected": "The protected route",
    "rotation": "Refresh: true rotations",
    "damped": "Refresh without rotation",
    "login": "Sign-in",
    "logout": "Sign-out",
}

NOTES = {
    "protected": """\
256 access tokens in turn. Ours are signed with ES256 and those of the others with HS256; the row marked HS256 is this
service set up alike. A signature that was found good is remembered for a while, so most requests are spared the
check; the others check each time.""",
    "rotation": """\
Each request presents a refresh token that was never used before, and gets its successor. Express is missing here: it
does not rotate. *Our file settings* means the other program with its SQLite file written as ours is.""",
    "damped": """\
Here a token that was rotated into less than 30 seconds ago, as in many tabs at once; in Express any refresh, with
1,000 tokens in its array. The other two rotate at every refresh.""",
    "login": """\
All but Express verify argon2id with 19 MiB, two passes and one lane, which is nearly all of the cost. Express
compares the password as it is, and so says nothing about the cost of signing in.""",
    "logout": """\
Ours ends the session, and records that in the trail; the other two put the refresh token on their list, and its
access tokens live on. Express looks for a token that it does not hold among 1,000.""",
}
