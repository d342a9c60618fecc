# People and CI call the same verbs. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Where it is set, every process compiles all that it imports: more than half of the time in which unit tests are collected.
unexport PYTHONDONTWRITEBYTECODE

PY := .venv/bin/python
CLUSTER := PYTHONPATH=cluster $(PY) -m subterra_cluster
PYTEST := $(PY) -m pytest --dist=loadscope --no-loadscope-reorder
# Unit tests and engines compute. The others, of an API server and of faults, mostly wait: three processes fill two cores.
COMPUTING := --numprocesses=2
WAITING := --numprocesses=3
SOURCES := api core operator jobs cli cluster demo release testkit tests bench docs images

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.venv/.synced: pyproject.toml uv.lock
	@demo/bootstrap

.PHONY: demo
demo: .venv/.synced ## from nothing to a served, priced agent; CONTEXT=… REGISTRY=… use your own cluster
	@PYTHONPATH=demo $(PY) -m subterra_demo $(if $(CONTEXT),--context $(CONTEXT)) $(if $(REGISTRY),--registry $(REGISTRY))

.PHONY: dashboards
dashboards: .venv/.synced ## the dashboards of the demo's cluster as out/dashboards.html: customers call while a Prometheus scrapes (4 minutes)
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.prometheus
	@PYTHONPATH=demo:cluster:testkit:. $(PY) -m subterra_demo.scraped_cluster

.PHONY: drill
drill: .venv/.synced ## ten faults on the demo's cluster, each found by its alert and repaired by its runbook; out/drill.md (20 minutes); ONLY="…" FACTOR=…
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.prometheus
	@PYTHONPATH=demo:cluster:testkit:. $(PY) -m subterra_demo.drill $(if $(ONLY),--only $(ONLY)) $(if $(FACTOR),--factor $(FACTOR))

.PHONY: test
test: test-tools test-unit ## everything that CI promises: unit tests first, then real engines, a real API server and faults
	@$(PYTEST) $(COMPUTING) --junitxml=out/tests/engines.xml -m "not exhaustive" tests/engines
	@$(PYTEST) $(WAITING) --junitxml=out/tests/cluster.xml -m "not exhaustive" tests --ignore tests/unit --ignore tests/engines

.PHONY: test-unit
test-unit: .venv/.synced ## the tests that need no engine, no API server and no server process
	@$(PYTEST) $(COMPUTING) --junitxml=out/tests/unit.xml -m "not exhaustive" tests/unit

.PHONY: test-faults
test-faults: test-tools ## crashes, lost replies, outages, takeovers, deaf watches on a real API server; prints injected and survived (10 minutes)
	@$(PY) -m pytest --numprocesses=0 --timeout=1800 -m "not exhaustive" tests/faults

.PHONY: test-exhaustive
test-exhaustive: test-tools ## every fault and engine matrix, pods on a real kubelet included (root; more than an hour)
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.jobset controller
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.kueue
	@PYTHONPATH=cluster:release:testkit $(PY) -m tests.tools.registry release
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.kuberay operator
	@$(CLUSTER) images
	@$(PY) -m pytest --timeout=3600 -m "exhaustive or faults" tests

.PHONY: test-release
test-release: test-tools ## a signed release in a real registry, verified and used as a stranger would (cosign, helm, krew; 5 minutes, and 4 once to build them)
	@PYTHONPATH=cluster:release:testkit $(PY) -m tests.tools.registry release
	@$(PY) -m pytest --numprocesses=0 --timeout=1800 tests/engines/registry/test_signed_release.py

.PHONY: test-install
test-install: test-tools ## a release installed from a registry alone into a second cluster, as the guide says (root, no other cluster; 15 minutes)
	@PYTHONPATH=cluster:release:testkit $(PY) -m tests.tools.registry release
	@$(CLUSTER) images
	@$(PY) -m pytest --numprocesses=0 --timeout=3600 tests/engines/registry/test_installation.py

.PHONY: test-tools
test-tools: .venv/.synced ## what tests ask: the cluster's binaries, libraries of GitOps tools, an S3 server, a registry, Prometheus, JobSet, the CRDs of KubeRay, KEDA and the Gateway API with its Inference Extension
	@$(CLUSTER) build
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.gitops_health.build
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.objectstore
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.prometheus
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.jobset
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.registry
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.keda
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.gateway_api
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.inference_extension
	@PYTHONPATH=cluster:testkit $(PY) -m tests.tools.kuberay
	@PYTHONPATH=cluster:testkit:. $(PY) -m tests.tools.models

.PHONY: test-browser
test-browser: .venv/.synced ## two made-up reports in out/, drawn on phone and desktop, and what axe-core finds in them (npm, Chromium; 2 minutes)
	@npm ci --prefix tests/browser --no-audit --no-fund
	@PYTHONPATH=testkit:. $(PY) -m tests.browser

.PHONY: bench-wordings
bench-wordings: .venv/.synced ## how the demo's agent handles customer phrasings that it was never trained on
	@PYTHONPATH=cluster:demo:. $(PY) -m bench.wordings_shift

.PHONY: bench-real-values
bench-real-values: .venv/.synced ## whether the travel agent in MODEL=… keeps 60 real cities that it was not trained on, in 3 phrasings each
	@PYTHONPATH=testkit:. $(PY) -m bench.real_values --model $(MODEL)

.PHONY: bench-labeller
bench-labeller: .venv/.synced ## how often sentence embeddings label free words correctly; MODELS=… is the folder with all-MiniLM-L6-v2
	@PYTHONPATH=testkit:. $(PY) -m bench.labeller $(if $(MODELS),--models $(MODELS))

.PHONY: bench-states
bench-states: .venv/.synced ## how often the state of a conversation is right, unknown or wrong, and its cost; MODELS=… as above
	@PYTHONPATH=testkit:. $(PY) -m bench.labeller.states $(if $(MODELS),--models $(MODELS))

.PHONY: bench-operator
bench-operator: .venv/.synced ## the operator with 1,000 finished agents and 100 in flight: memory, restart, requests (20 minutes)
	@$(CLUSTER) build
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.scale

.PHONY: bench-paths
bench-paths: .venv/.synced ## how the time to count paths grows from 10 to 1,000 nodes
	@$(PY) bench/procedures/paths.py

.PHONY: bench-imports
bench-imports: .venv/.synced ## how much of the public processes, flows and agents in SAMPLES=… an import takes over
	@PYTHONPATH=. $(PY) -m bench.procedures.imports $(SAMPLES)

.PHONY: bench-hosted-prices
bench-hosted-prices: .venv/.synced ## what travel costs in context with hosted models, against the compiled model's price
	@$(PY) -m bench.hosted_prices

.PHONY: check-models
check-models: .venv/.synced ## whether the hosted models that examples and pages recommend live on for 60 days from today
	@PYTHONPATH=testkit $(PY) -m subterra_testkit.model_names

.PHONY: bench-generation
bench-generation: .venv/.synced ## plans beside random walks, what an edit leaves paid, a provider's limits (10 minutes)
	@PYTHONPATH=testkit:. $(PY) -m bench.generation

.PHONY: bench-evaluation
bench-evaluation: .venv/.synced ## how much longer an evaluation's play takes than its requests alone, against a stand-in server (2 minutes)
	@PYTHONPATH=testkit:. $(PY) -m bench.evaluation

.PHONY: bench-protocol
bench-protocol: .venv/.synced ## the paper's protocol and the gate's defaults on the demo's cluster, hosted models as stand-ins (20 minutes); SEED=… for another one
	@PYTHONPATH=cluster:demo:testkit:. $(PY) -m bench.protocol $(if $(SEED),--seed $(SEED))

.PHONY: bench-paper
bench-paper: .venv/.synced ## the paper's tables without a cluster, stand-ins for all models; AGENT=… CANDIDATE=URL SAME_MODEL=URL: hosted models, paid; AGAINST=report.json
	@PYTHONPATH=testkit:. $(PY) -m bench.evaluation.paper $(if $(AGENT),--agent $(AGENT)) $(if $(CANDIDATE),--candidate $(CANDIDATE)) $(if $(SAME_MODEL),--same-model $(SAME_MODEL)) $(if $(AGAINST),--against $(AGAINST)) $(if $(SEED),--seed $(SEED))

.PHONY: bench-training
bench-training: .venv/.synced ## the train stage against a plain PyTorch loop, by CPU seconds (5 minutes)
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.training

.PHONY: bench-pipeline
bench-pipeline: .venv/.synced ## the three stages without a cluster: seconds, memory, scores of PROCEDURES=… (default: travel; half an hour each); CONVERSATIONS=…
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.pipeline $(or $(PROCEDURES),examples/travel/procedure.yaml) $(if $(CONVERSATIONS),--conversations $(CONVERSATIONS))

.PHONY: bench-serving
bench-serving: .venv/.synced ## ten rollouts and a drained pod under 24 clients on open connections, first tokens and tokens per second, real vLLM without a cluster (15 minutes); MODEL=… for a trained one
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.pipeline.serving $(if $(MODEL),--model $(MODEL))

.PHONY: bench-compare
bench-compare: .venv/.synced ## compiled models against the base model in context and orchestrated; COMPILED=… SCRATCH=… are finished models (hours)
	@PYTHONPATH=cluster:testkit:. $(PY) -m bench.comparison $(if $(COMPILED),--compiled $(COMPILED)) $(if $(SCRATCH),--scratch $(SCRATCH))

.PHONY: bench-gate
bench-gate: .venv/.synced ## how often a paired gate would promote equal, worse and creeping candidates, simulated; what replay finds (4 minutes)
	@OPENBLAS_NUM_THREADS=1 PYTHONPATH=testkit:. $(PY) -m bench.gate

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

.PHONY: generate
generate: .venv/.synced ## write crds/, the page of their fields and the chart's copy, its schema and the page of its values; rules, dashboards and the page of metrics; pictures of examples
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
golden: .venv/.synced ## write what tests compare with: the promises of v1alpha1, Argo CD's test data; ALLOW=--allow-breaking forgets promises
	@PYTHONPATH=cluster:testkit $(PY) -m tests.golden $(ALLOW)

.PHONY: images
images: .venv/.synced ## build images/*/Dockerfile and share them with the local cluster
	@$(CLUSTER) images

.PHONY: release
release: .venv/.synced ## command line, images, chart, checksums; VERSION=0.2.0 REGISTRY=registry.example/me; KEY=cosign.key signs (root, Debian)
	@PYTHONPATH=cluster:release $(PY) -m subterra_release $(VERSION) --registry $(REGISTRY) $(if $(KEY),--key $(KEY)) $(if $(DOWNLOADS),--downloads $(DOWNLOADS)) $(RELEASE_OPTIONS)

.PHONY: cluster-up
cluster-up: .venv/.synced ## a one-node Kubernetes on this machine (root, Debian)
	@$(CLUSTER) up

.PHONY: cluster-env
cluster-env: .venv/.synced ## shell settings for it: eval "$(make -s cluster-env)"
	@$(CLUSTER) env

.PHONY: cluster-status
cluster-status: .venv/.synced ## what runs
	@$(CLUSTER) status

.PHONY: cluster-down
cluster-down: .venv/.synced ## stop it and remove everything but the build cache
	@$(CLUSTER) down

.PHONY: cluster-purge
cluster-purge: .venv/.synced ## remove the build cache as well
	@$(CLUSTER) purge
