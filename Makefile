# The two commands of a newcomer are make run and make test. Each sets up what it needs, given Python 3.11 or newer.
# Another Python, named by PYTHON=, has its own environment beside .venv: make test PYTHON=python3.13
ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
VENV ?= .venv-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
endif
VENV ?= .venv
# Programs are started through their interpreter: a script's first line breaks when the folder moves.
PY = $(VENV)/bin/python
PIP = $(PY) -m pip --quiet --disable-pip-version-check
# The first of these that is new enough and can create a virtual environment.
PYTHON ?= $(shell for each in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$each -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$each; break; }; done)
DEVELOPMENT = TOKENAPP_ENV=development TOKENAPP_LOG_FORMAT=$${TOKENAPP_LOG_FORMAT:-text}
# One process per core: with more, tests of time limits would lack time.
PARALLEL ?= -n 2 --dist worksteal
DEMO_PASSWORD := only-for-trying-it-here

.PHONY: run test coverage quick check container format audit bench soak screenshots pins clean python

# The demo user is created only in a database without users.
run: $(VENV)/.runs
	@$(DEVELOPMENT) $(PY) -m tokenapp db upgrade
	@users=$$($(DEVELOPMENT) $(PY) -m tokenapp users list --json) && { test "$$users" != "[]" || \
		echo "$(DEMO_PASSWORD)" | $(DEVELOPMENT) $(PY) -m tokenapp users create demo --if-missing; }
	@echo "tokenapp: http://localhost:$${PORT:-3005}$${SCRIPT_NAME:-} (README.md shows how to sign in; Ctrl-C stops it)"
	@$(DEVELOPMENT) exec $(PY) -m gunicorn

# About fifteen minutes on two cores. The tests start the program 600 times. With PYTHONDONTWRITEBYTECODE, which is
# usual in containers, each start would compile it again, a quarter of its CPU time.
test: $(VENV)/.checks
	@$(PY) -m compileall -q tokenapp tokenapp_guard
	$(PY) -m pytest $(PARALLEL) $(TESTS)

# The same tests with branch coverage, which takes about a third longer.
coverage: $(VENV)/.checks
	@$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(PARALLEL) $(TESTS)
	@$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

# A few minutes: SQLite only, without browsers, servers, races and guides.
quick: $(VENV)/.checks
	$(PY) -m pytest --quick --quiet $(PARALLEL) $(TESTS)

check: $(VENV)/.checks
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) $(VENV)/bin/lint-imports
	$(VENV)/bin/hadolint Containerfile

# Builds the container image and runs it. It needs root, buildah and mmdebstrap, and takes about two minutes.
container: $(VENV)/.checks
	CONTAINER=1 $(PY) -m pytest --quiet tests/container

format: $(VENV)/.checks
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# Compares the service with what people use today and writes docs/benchmarks. It needs a machine that does nothing else.
# To try it: make bench ROUNDS=1 SECONDS=2 FOLDER=/somewhere/else.
bench: $(VENV)/.benches
	$(PY) -m bench --rounds $(or $(ROUNDS),5) --seconds $(or $(SECONDS),2) $(if $(FOLDER),--folder $(FOLDER)) $(if $(PART),--resume --part $(PART)) $(if $(RESUME),--resume)

# Runs many rounds of the race test of the browser client, looks for access keys in a million random texts and in source
# files, and then runs the service under load with one fault after another:
# make soak MINUTES=60 KIND=sqlite ROUNDS=200
soak: $(VENV)/.checks
	CLIENT_RACE_ROUNDS=$${ROUNDS:-50} $(PY) -m pytest --quiet tests/browser/test_client_races.py
	RANDOM_KEYS=1000000 SOURCE_FILES=100000 $(PY) -m pytest --quiet tests/access_keys/test_formats.py
	FACTOR_ROUNDS=$${ROUNDS:-30} FACTOR_WORKERS=10 FACTOR_EXAMPLES=$${EXAMPLES:-500} $(PY) -m pytest --quiet \
		--hypothesis-profile default tests/factors/test_races.py tests/factors/test_state_machine.py
	BINDING_CAMPAIGN=1 $(PY) -m pytest --quiet tests/browser/test_device_binding.py
	MAIL_KILLS=$${KILLS:-20} MAIL_ROUNDS=$${ROUNDS:-50} MAIL_SAMPLES=$${ROUNDS:-50} MAIL_FLOOD=10000 \
		$(PY) -m pytest --quiet tests/mail
	FUZZ_EXAMPLES=$${EXAMPLES:-100} $(PY) -m pytest --quiet --hypothesis-profile default \
		tests/api/test_openapi_fuzz.py
	SESSION_EXAMPLES=$${EXAMPLES:-500} $(PY) -m pytest --quiet --hypothesis-profile default \
		tests/sessions/test_state_machine.py
	$(PY) -m bench.soak --minutes $${MINUTES:-10} --kind $${KIND:-postgresql}

# Looks for known vulnerabilities in the pinned versions. It fails if the database of vulnerabilities cannot be reached.
audit: $(VENV)/.checks
	$(PY) -m pip_audit --strict --require-hashes --disable-pip -r requirements.txt

# Compiles requirements*.in to exact pins with hashes.
pins: $(VENV)/.checks
	$(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o requirements.txt requirements.in
	$(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o requirements-dev.txt requirements-dev.in
	$(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o requirements-bench.txt requirements-bench.in

# Takes the screenshots of the account page in docs/screenshots, and pictures of all mails in docs/mail-pictures.
screenshots: $(VENV)/.checks
	SCREENSHOTS=1 $(PY) -m pytest --quiet tests/browser/test_account_screenshots.py tests/browser/test_mail_pictures.py

clean:
	rm -rf .venv .venv-* bench/rivals/express/node_modules guard-node/node_modules .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Prints which Python is used, or what is missing.
python:
	@test -n "$(PYTHON)" || { echo "tokenapp needs Python 3.11 or newer with its venv module, and found none." \
		"On Debian: apt-get install python3-venv. Or name one: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "$(PYTHON)"

$(VENV)/.runs: requirements.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(MAKE) --no-print-directory python >/dev/null \
		&& echo "Setting up $(VENV), which takes a minute the first time" && $(PYTHON) -m venv --clear $(VENV); }
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.checks: requirements-dev.txt $(VENV)/.runs
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

# The programs that the benchmark compares with, and the load generator.
$(VENV)/.benches: requirements-bench.txt bench/rivals/express/package-lock.json $(VENV)/.checks
	@bench/install
	@$(PIP) install --require-hashes -r requirements-bench.txt
	@cd bench/rivals/express && npm ci --silent --no-audit --no-fund
	@touch $@
