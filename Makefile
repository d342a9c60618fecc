# People and CI call the same verbs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# If it is set, every process compiles again all that it imports: half of the time in which unit tests are collected.
unexport PYTHONDONTWRITEBYTECODE

PY := .venv/bin/python
CLUSTER := PYTHONPATH=cluster $(PY) -m subterra_cluster
PYTEST := $(PY) -m pytest --dist=loadscope --no-loadscope-reorder
# Unit tests and engines compute. The others, of an API server and of faults, mostly wait: three processes fill two cores.
COMPUTING := --numprocesses=2
WAITING := --numprocesses=3
TEST_TOOLS := gitops_health.build objectstore prometheus jobset kuberay registry keda gateway_api inference_extension
SOURCES := api core operator jobs cli cluster demo release testkit tests bench docs images

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^##@ /{print "\n" substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-19s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.synced: pyproject.toml uv.lock
	@demo/bootstrap

##@ See it work

.PHONY: demo
demo: .venv/.synced ## from nothing to a served, priced agent; CONTEXT=… REGISTRY=…: on your own cluster
	@PYTHONPATH=demo $(PY) -m subterra_demo $(if $(CONTEXT),--context $(CONTEXT)) $(if $(REGISTRY),--registry $(REGISTRY))

.PHONY: dashboards
dashboards: .venv/.synced ## the demo's dashboards under load, as out/dashboards.html (4 min)
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.prometheus
	@PYTHONPATH=demo:cluster:testkit:. $(PY) -m subterra_demo.scraped_cluster

.PHONY: drill
drill: .venv/.synced ## ten faults on the demo's cluster, alert by alert, in out/drill.md (20 min); ONLY=… FACTOR=…
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.prometheus
	@PYTHONPATH=demo:cluster:testkit:. $(PY) -m subterra_demo.drill $(if $(ONLY),--only $(ONLY)) $(if $(FACTOR),--factor $(FACTOR))

##@ Test

.PHONY: test
test: test-tools test-unit ## everything that CI promises: unit tests, real engines, a real API server, faults (20 min)
	@$(PYTEST) $(COMPUTING) --junitxml=out/tests/engines.xml -m "not exhaustive" tests/engines
	@$(PYTEST) $(WAITING) --junitxml=out/tests/cluster.xml -m "not exhaustive" tests --ignore tests/unit --ignore tests/engines

.PHONY: test-unit
test-unit: .venv/.synced ## tests without engine, API server or server process (2 min)
	@$(PYTEST) $(COMPUTING) --junitxml=out/tests/unit.xml -m "not exhaustive" tests/unit

.PHONY: test-faults
test-faults: test-tools ## crashes, lost replies, outages, takeovers on a real API server, counted (10 min)
	@$(PY) -m pytest --numprocesses=0 --timeout=1800 -m "not exhaustive" tests/faults

.PHONY: test-exhaustive
test-exhaustive: test-tools ## every fault and engine matrix, with pods on a real kubelet (root; over an hour)
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.jobset controller
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.kueue
	@PYTHONPATH=cluster:release:testkit $(PY) -m tests.tools.registry release
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.kuberay operator
	@$(CLUSTER) images
	@$(PY) -m pytest --timeout=3600 -m "exhaustive or faults" tests

.PHONY: test-release
test-release: test-tools ## a signed release in a real registry, verified and used as a stranger would (9 min)
	@PYTHONPATH=cluster:release:testkit $(PY) -m tests.tools.registry release
	@$(PY) -m pytest --numprocesses=0 --timeout=1800 tests/engines/registry/test_signed_release.py

.PHONY: test-install
test-install: test-tools ## the install guide in a second cluster, from a registry alone (root; 15 min)
	@PYTHONPATH=cluster:release:testkit $(PY) -m tests.tools.registry release
	@$(CLUSTER) images
	@$(PY) -m pytest --numprocesses=0 --timeout=3600 tests/engines/registry/test_installation.py

.PHONY: test-tools
test-tools: .venv/.synced ## build what the tests need: etcd, API server, registry, Prometheus, CRDs, …
	@$(CLUSTER) build
	@for tool in $(TEST_TOOLS); do PYTHONPATH=cluster:testkit $(PY) -m tests.tools.$$tool; done
	@PYTHONPATH=cluster:testkit:. $(PY) -m tests.tools.models

.PHONY: test-browser
test-browser: .venv/.synced ## draw two made-up reports on phone and desktop, with axe-core (npm, Chromium; 2 min)
	@npm ci --prefix tests/browser --no-audit --no-fund
	@PYTHONPATH=testkit:. $(PY) -m tests.browser

##@ Measure

.PHONY: bench-wordings
bench-wordings: .venv/.synced ## customer phrasings that the demo's agent was never trained on
	@PYTHONPATH=cluster:demo:. $(PY) -m bench.wordings_shift

.PHONY: bench-real-values
bench-real-values: .venv/.synced ## 60 real cities in phrasings that the agent in MODEL=… was not trained on
	@PYTHONPATH=testkit:. $(PY) -m bench.real_values --model $(MODEL)

.PHONY: bench-labeller
bench-labeller: .venv/.synced ## how often sentence embeddings label free words correctly; MODELS=…: folder of all-MiniLM-L6-v2
	@PYTHONPATH=testkit:. $(PY) -m bench.labeller $(if $(MODELS),--models $(MODELS))

.PHONY: bench-states
bench-states: .venv/.synced ## how often the state of a conversation is right, unknown or wrong; MODELS=… as above
	@PYTHONPATH=testkit:. $(PY) -m bench.labeller.states $(if $(MODELS),--models $(MODELS))

.PHONY: bench-operator
bench-operator: .venv/.synced ## 1,000 finished agents and 100 in flight: memory, restart, requests (20 min)
	@$(CLUSTER) build
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.scale

.PHONY: bench-paths
bench-paths: .venv/.synced ## time to count paths, from 10 to 1,000 nodes
	@$(PY) bench/procedures/paths.py

.PHONY: bench-imports
bench-imports: .venv/.synced ## how much of the public processes, flows and agents in SAMPLES=… is imported
	@PYTHONPATH=. $(PY) -m bench.procedures.imports $(SAMPLES)

.PHONY: bench-hosted-prices
bench-hosted-prices: .venv/.synced ## travel in context with hosted models, compared with the compiled price
	@$(PY) -m bench.hosted_prices

.PHONY: bench-generation
bench-generation: .venv/.synced ## plans compared with random walks, reuse after an edit, a provider's limits (10 min)
	@PYTHONPATH=testkit:. $(PY) -m bench.generation

.PHONY: bench-evaluation
bench-evaluation: .venv/.synced ## an evaluation's play, compared with its requests alone (2 min)
	@PYTHONPATH=testkit:. $(PY) -m bench.evaluation

.PHONY: bench-protocol
bench-protocol: .venv/.synced ## the paper's protocol and the gate's defaults on the demo's cluster (20 min); SEED=…
	@PYTHONPATH=cluster:demo:testkit:. $(PY) -m bench.protocol $(if $(SEED),--seed $(SEED))

.PHONY: bench-paper
bench-paper: .venv/.synced ## the paper's tables without a cluster; AGENT=… CANDIDATE=URL SAME_MODEL=URL: paid; AGAINST=FILE
	@PYTHONPATH=testkit:. $(PY) -m bench.evaluation.paper $(if $(AGENT),--agent $(AGENT)) $(if $(CANDIDATE),--candidate $(CANDIDATE)) $(if $(SAME_MODEL),--same-model $(SAME_MODEL)) $(if $(AGAINST),--against $(AGAINST)) $(if $(SEED),--seed $(SEED))

.PHONY: bench-training
bench-training: .venv/.synced ## the train stage and a plain PyTorch loop, by CPU seconds (5 min)
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.training

.PHONY: bench-pipeline
bench-pipeline: .venv/.synced ## the stages without a cluster, of PROCEDURES=… (30 min each); CONVERSATIONS=…
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.pipeline $(or $(PROCEDURES),examples/travel/procedure.yaml) $(if $(CONVERSATIONS),--conversations $(CONVERSATIONS))

.PHONY: bench-serving
bench-serving: .venv/.synced ## rollouts and a drained pod under 24 clients, real vLLM (15 min); MODEL=…
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.pipeline.serving $(if $(MODEL),--model $(MODEL))

.PHONY: bench-compare
bench-compare: .venv/.synced ## compiled, in context, orchestrated (hours); COMPILED=… SCRATCH=…: finished models
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.comparison $(if $(COMPILED),--compiled $(COMPILED)) $(if $(SCRATCH),--scratch $(SCRATCH))

.PHONY: bench-gate
bench-gate: .venv/.synced ## how often the gate promotes equal, worse and creeping candidates, simulated (4 min)
	@OPENBLAS_NUM_THREADS=1 PYTHONPATH=testkit:. $(PY) -m bench.gate

##@ Check and generate

.PHONY: lint
lint: .venv/.synced ## ruff, mypy --strict, import-linter, generated files up to date
	@.venv/bin/ruff check $(SOURCES)
	@.venv/bin/ruff format --check $(SOURCES)
	@.venv/bin/mypy api/subterra_api core/subterra_core operator/subterra_operator jobs/subterra_jobs cli/subterra_cli cluster/subterra_cluster demo/subterra_demo release/subterra_release testkit/subterra_testkit
	@.venv/bin/lint-imports
	@$(PY) -m subterra_api.crd --check
	@$(PY) -m subterra_core.monitoring --check
	@$(PY) -m subterra_cli.files.chart_files --check
	@$(PY) docs/contributing/architecture_figure.py --check
	@$(PY) docs/contributing/example_pictures.py --check

.PHONY: check-models
check-models: .venv/.synced ## whether the hosted models that examples and pages name live for 60 more days
	@PYTHONPATH=testkit $(PY) -m subterra_testkit.model_names

.PHONY: generate
generate: .venv/.synced ## write CRDs, schema of values, alert rules, dashboards and their pages
	@$(PY) -m subterra_api.crd
	@$(PY) -m subterra_core.monitoring
	@$(PY) -m subterra_cli.files.chart_files
	@$(PY) docs/contributing/example_pictures.py

.PHONY: figure
figure: .venv/.synced ## write the pictures in docs/
	@$(PY) docs/contributing/architecture_figure.py
	@mkdir -p out && rm -f out/first.yaml
	@$(PY) -m subterra_cli init first --output out/first.yaml
	@$(PY) -m subterra_cli graph out/first.yaml --output svg > docs/first-agent.svg
	@$(PY) docs/contributing/example_pictures.py

.PHONY: golden
golden: .venv/.synced ## write what tests compare with; ALLOW=--allow-breaking breaks promises of v1alpha1
	@PYTHONPATH=cluster:testkit $(PY) -m tests.golden $(ALLOW)

##@ Build and release

.PHONY: images
images: .venv/.synced ## build images/*/Dockerfile and share them with the local cluster
	@$(CLUSTER) images

.PHONY: release
release: .venv/.synced ## files, images and chart; VERSION=0.2.0 REGISTRY=…, KEY=cosign.key signs (root, Debian)
	@PYTHONPATH=cluster:release $(PY) -m subterra_release $(VERSION) --registry $(REGISTRY) $(if $(KEY),--key $(KEY)) $(if $(DOWNLOADS),--downloads $(DOWNLOADS)) $(RELEASE_OPTIONS)

##@ The local cluster

.PHONY: cluster-up
cluster-up: .venv/.synced ## a one-node Kubernetes on this machine (root, Debian)
	@$(CLUSTER) up

.PHONY: cluster-env
cluster-env: .venv/.synced ## print its shell settings: eval "$(make -s cluster-env)"
	@$(CLUSTER) env

.PHONY: cluster-status
cluster-status: .venv/.synced ## show what runs in it
	@$(CLUSTER) status

.PHONY: cluster-down
cluster-down: .venv/.synced ## stop it and remove everything but the build cache
	@$(CLUSTER) down

.PHONY: cluster-purge
cluster-purge: .venv/.synced ## remove the build cache as well
	@$(CLUSTER) purge
