# `make run` starts the gateway, `make test` passes the tests; both set up what they need.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Running needs less than testing: each set of packages has a stamp of its own.
RUN    := $(VENV)/.installed-run
DEV    := $(VENV)/.installed-dev

# How long the stress program runs, what its dice begin with, and which Redis it has: single, sentinel or cluster.
SECONDS  ?= 60
SEED     ?=
TOPOLOGY ?=

# For `make manifests`.
HELM      ?= helm
MANIFESTS ?= deploy/kubernetes

.PHONY: help run dev cluster manifests test test-all matrix soak attacks alerts fuzz model autobahn bench networks check client lock dist site format clean

help:
	@echo "make run        start a development gateway on port 3001 (or GATEWAY_PORT), with a Redis of its own"
	@echo "make cluster    what deploy/compose.yaml has as processes of this machine, from port BASE_PORT=4000 on; Ctrl-C ends all"
	@echo "make dev        install what the tests need, and run none"
	@echo "make test       run the tests against a real server"
	@echo "make test-all   the same, with publishers and nodes on Sentinel and on a cluster too, the JavaScript client on Deno, Bun, newer Nodes, Firefox and WebKit, and five minutes of all faults at random"
	@echo "make matrix     test the publisher with each Python and each redis package found here"
	@echo "make soak       all faults at random for SECONDS=60; SEED=... for the same dice again, TOPOLOGY=sentinel or cluster for another Redis"
	@echo "make attacks    each kind of attack beside a client, for some seconds; ONLY=ping for those of that name"
	@echo "make alerts     cause every alert on real processes, follow the runbook, and see it end; ONLY=RedisSlow for those of that name"
	@echo "make fuzz       inputs that are nearly right for SECONDS=60, for everything that reads what comes from outside; SEED=..., ONLY=heads"
	@echo "make model      tenants, tokens, grants and faults at random for SECONDS=60, judged by who may hear what; SEED=..., TOPOLOGY=..."
	@echo "make autobahn   the Autobahn suite against the code that serves clients; TLS=1 for the same over TLS"
	@echo "make bench      measure what the gateway costs; PEERS=1 also measures other servers"
	@echo "make networks   real clients on bad networks, and how soon they have what they missed; needs root, ONLY=moved,asleep for some"
	@echo "make check      ruff, mypy --strict, size and types of the JavaScript client, and pip-audit"
	@echo "make client     build the JavaScript client that every gateway serves from gateway/web/static/client/src; needs npm"
	@echo "make lock       write requirements.lock and sbom.cdx.json anew"
	@echo "make manifests  write deploy/kubernetes anew from the chart in deploy/helm; needs Helm"
	@echo "make dist       build the wheel and the sdist into dist/, the same bytes from the same commit (COMMIT=...)"
	@echo "make site       make a static site of the documentation in build/site, and check every link of it (REPOSITORY=https://... for links to files)"
	@echo "make format     format the code"
	@echo "make clean      remove the virtual environment and the development data"

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 run" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) (once, about a minute)..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded]'
	@touch $@

$(DEV): $(RUN)
	@echo "Installing what the tests need (once)..."
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded,test,check]'
	@touch $@

dev: $(DEV)

cluster: $(RUN)
	@exec env PYTHONPATH=$(CURDIR) $(BIN)/python deploy/cluster.py $(if $(BASE_PORT),--base-port $(BASE_PORT))

run: $(RUN)
	@exec $(BIN)/gateway serve --development

# Where Python may write no bytecode, each of the hundreds of processes that the tests start would compile the code anew.
test: $(DEV)
	@$(BIN)/python -m compileall -q gateway publisher tests -x node_modules
	$(BIN)/pytest -n 3 --dist loadgroup -m "not long"

test-all: test
	$(BIN)/pytest -n 2 --dist loadgroup -m long
	FAULTS_MORE=1 $(BIN)/pytest -n 2 --dist loadgroup tests/faults/test_named_faults.py tests/faults/test_redis_trouble.py tests/faults/test_node_trouble.py
	TOPOLOGY=sentinel $(BIN)/pytest -n 2 --dist loadgroup tests/publisher tests/integration tests/faults/test_named_faults.py
	TOPOLOGY=cluster $(BIN)/pytest -n 2 --dist loadgroup tests/publisher tests/integration tests/faults/test_named_faults.py
	set -e; for each in node22 node24 deno bun; do JS_RUNTIME=$$each $(BIN)/pytest -n 2 --dist loadgroup tests/browser/test_javascript_client.py tests/browser/test_fallback.py tests/browser/test_mock_gateway.py; done
	set -e; for each in firefox webkit; do BROWSER=$$each $(BIN)/pytest -n 2 --dist loadgroup tests/browser/test_client_in_pages.py tests/browser/test_event_source.py; done
	@$(MAKE) alerts
	@$(MAKE) soak SECONDS=300
	@$(MAKE) soak TOPOLOGY=sentinel
	@$(MAKE) soak TOPOLOGY=cluster

matrix: $(DEV)
	$(BIN)/python -m tests.packaging.matrix

soak: $(DEV)
	@TOPOLOGY=$(TOPOLOGY) $(BIN)/python -m tests.faults.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

attacks: $(DEV)
	@$(BIN)/python -m tests.attacks $(if $(ONLY),--only "$(ONLY)")

alerts: $(DEV)
	@$(BIN)/python -m tests.alerts $(if $(ONLY),--only "$(ONLY)")

fuzz: $(DEV)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")
	@$(BIN)/python -m tests.attacks --only "nearly right"

model: $(DEV)
	@TOPOLOGY=$(TOPOLOGY) $(BIN)/python -m tests.model --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# DOCUMENT=1 also writes the table into docs/conformance.md.
autobahn: $(DEV)
	$(BIN)/python -m tests.autobahn $(if $(DOCUMENT),--document) $(if $(TLS),--tls)

# ONLY=fanout,burst measures a part, ONLY=scale CONNECTIONS=50000 a larger one; docs/performance.md says what there is.
bench: $(DEV)
	$(BIN)/python -m tests.bench $(if $(PEERS),--peers) $(if $(DOCUMENT),--document) $(if $(ONLY),--only $(ONLY)) $(if $(CONNECTIONS),--connections $(CONNECTIONS)) $(if $(CHANNELS),--channels $(CHANNELS))

# DOCUMENT=1 also writes the table into docs/reliability.md.
networks: $(DEV)
	@$(BIN)/python -m tests.networks $(if $(ONLY),--only $(ONLY)) $(if $(DOCUMENT),--document)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/python -m tests.packaging.javascript_client check
	@$(BIN)/python -m tests.packaging.supply audit

# After a change of constraints.txt or of what the gateway needs.
lock: $(DEV)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[lock]'
	@$(BIN)/python -m tests.packaging.supply make

# After a change of the chart. What is Helm's own business is left out.
TEMPLATE = $(HELM) template realtime-gateway deploy/helm --kube-version 1.37.0
PLAIN    = sed -e '/^\# Source:/d' -e '/helm.sh\/chart:/d' -e '/managed-by: Helm/d' -e '/^ *namespace: default$$/d'
manifests:
	@mkdir -p $(MANIFESTS)
	@set -e; rendered=$$(mktemp); \
	write() { file=$$1; shift; $(TEMPLATE) "$$@" > $$rendered; $(PLAIN) $$rendered > $(MANIFESTS)/$$file; }; \
	write gateway.yaml; \
	write autoscaling.yaml --set autoscaling.enabled=true --show-only templates/horizontalpodautoscaler.yaml; \
	write api.yaml --set api.enabled=true --set secrets.api_keys.name=realtime-gateway --set secrets.api_keys.key=api-keys \
		$(foreach each,deployment networkpolicy api,--show-only templates/$(each).yaml); \
	write webhooks.yaml --set webhooks.enabled=true --set webhooks.url=https://backend.example.com/hooks \
		--set 'settings.events=connected\,disconnected' --show-only templates/webhooks.yaml; \
	write monitoring.yaml --set monitoring.serviceMonitor=true --show-only templates/monitoring.yaml; \
	rm $$rendered

dist: $(DEV)
	@$(BIN)/python -m tests.packaging.dist --commit $(or $(COMMIT),HEAD)

site: $(RUN)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded,docs]'
	@$(BIN)/python -m docs.site.build $(if $(REPOSITORY),--repository $(REPOSITORY))

# After a change of gateway/web/static/client/src.
client: $(DEV)
	@$(BIN)/python -m tests.packaging.javascript_client

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A gateway that was killed leaves its Redis running, for the next one to find.
clean:
	@-[ ! -f .gateway/redis.pid ] || pkill -F .gateway/redis.pid 'valkey-server|redis-server' 2>/dev/null || true
	rm -rf $(VENV) .gateway build dist *.egg-info tests/js/node_modules tests/js/*/node_modules
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
