# The two commands of a newcomer: make run, make test. All of them set up what they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check format bench soak pins clean

run: $(VENV)/.runs
	@TOKENAPP_ENV=development $(BIN)/flask db upgrade
	@echo demo-password-only-for-trying | TOKENAPP_ENV=development $(BIN)/flask users create demo --if-missing
	TOKENAPP_ENV=development $(BIN)/gunicorn

test: $(VENV)/.checks
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.checks
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Compiles requirements*.in to exact pins.
pins: $(VENV)/.checks
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o requirements.txt requirements.in
	$(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o requirements-dev.txt requirements-dev.in

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.runs: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.checks: requirements-dev.txt $(VENV)/.runs
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
