# Perception: frames in, panoptic scenes out. `make help` lists the targets.

PROFILE ?= demo
PORT_BASE ?= 50050
ENGINE ?= auto
SOURCE ?=
BESIDE ?=
LOAD ?= knee
CAMERAS ?= yes
MODEL ?= detector
ONLY ?=
QUICK ?=
OUT ?= out

PYTHON ?= python3.11
PIP := -m pip install --quiet --disable-pip-version-check
# setuptools says at every editable installation that folders may be imported by their names.
QUIETLY := PYTHONWARNINGS=ignore
STAMPS := .cache/environments
# Each lock is complete and names every file by its hash; what is not in it cannot be installed, nor what is no wheel.
LOCKED := --no-deps --only-binary=:all: --require-hashes --requirement deploy/locks
OURS := --no-deps --no-build-isolation --editable clients/python --editable .
# glibc gives large tensors back to the kernel after every step and asks for them anew; kept, with huge pages, a step on
# a CPU takes half the time.
TRAINING_MEMORY = MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=500000000 THP_MEM_ALLOC_ENABLE=1
# Hundreds of processes start and die in these tests, some by a clock: what fails on a busy machine has one more chance
# and is listed as RERUN; what fails twice has failed.
ONCE_MORE = --reruns 1 --reruns-delay 5 -r fEsxXR
# Many of them wait for something, so two files at a time take little more than half as long.
SIDE_BY_SIDE = --numprocesses 2 --dist loadfile
# Tests that need PyTorch skip in .venv and run in .venv-models.
TORCH_TESTS = tests/models/training $(shell grep --recursive --files-with-matches --extended-regexp 'importorskip..(torch|ultralytics)' tests --include='test_*.py' --exclude-dir=training)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: run
run: environment ## Perceive sample frames and live cameras, or SOURCE=photo.jpg|folder|video PROFILE=demo|street|coco; results in out/
	@.venv/bin/perception run --profile $(PROFILE) --port-base $(PORT_BASE) --engine $(ENGINE) --output $(OUT) $(if $(SOURCE),--source "$(SOURCE)")

.PHONY: up
up: environment ## Leave the system running, with the page that shows its cameras; PROFILE=… PORT_BASE=53050 CAMERAS=no
	@.venv/bin/perception up --detach --profile $(PROFILE) --port-base $(PORT_BASE) --engine $(ENGINE) $(if $(filter no,$(CAMERAS)),--no-cameras)

.PHONY: status
status: ## Show the processes of what `make up` left running, and which were started again; PORT_BASE=…
	@.venv/bin/perception status --port-base $(PORT_BASE)

.PHONY: down
down: ## Stop what `make up` left running; PORT_BASE=…
	@.venv/bin/perception down --port-base $(PORT_BASE)

.PHONY: loadtest
loadtest: environment ## Drive what `make up` left running; LOAD="open --rate 5"|closed|"streams --cameras 4"|knee SOURCE=…; out/loadtest/
	@.venv/bin/perception loadtest $(LOAD) --address 127.0.0.1:$(PORT_BASE) $(if $(SOURCE),--source "$(SOURCE)")

.PHONY: evaluate
evaluate: environment ## Measure the running system and its models; PROFILE=demo|coco|camvid BESIDE=another profile
	@.venv/bin/perception evaluate --profile $(PROFILE) $(addprefix --beside ,$(BESIDE)) --port-base $(PORT_BASE) --engine $(ENGINE)

.PHONY: train
train: environment-models ## Train MODEL=detector|mask_rcnn|faster_rcnn|bisenet|classifier|bisenet_camvid into runs/
	@$(TRAINING_MEMORY) .venv-models/bin/python -m models.training --model $(MODEL)

.PHONY: bench
bench: environment ## Measure against the bare models, raw Triton and others, in pairs; ONLY="fusion codecs" QUICK=1; writes docs/benchmarks.md
	@.venv/bin/python -m loadtest.bench $(addprefix --only ,$(ONLY)) $(if $(QUICK),--quick) --port-base $(PORT_BASE)

.PHONY: test
test: environment environment-dev environment-models lint ## Run every check and test
	.venv/bin/pytest $(ONCE_MORE) $(SIDE_BY_SIDE)
	.venv-models/bin/python -m pytest $(ONCE_MORE) $(TORCH_TESTS)

.PHONY: test-resilience
test-resilience: environment environment-dev ## Overload the system, kill and stop its processes, spoil its links, let hostile callers in; print what became of each request (18 minutes)
	RESILIENCE_SECONDS=$${RESILIENCE_SECONDS:-120} .venv/bin/pytest tests/resilience --capture=no --verbose

.PHONY: fuzz
fuzz: environment environment-dev ## Send what nobody would send to every decoder, settings file and RPC; SECONDS=300
	@.venv/bin/python -m tests.fuzz --seconds $(or $(SECONDS),300)

.PHONY: soak
soak: environment environment-dev ## Load the local system for long and fail where memory, descriptors or threads grow; MINUTES=30, pictures in out/soak/
	@.venv/bin/python -m tests.resilience.soak --minutes $(or $(MINUTES),30) --profile $(PROFILE) --engine $(ENGINE) --port-base $(PORT_BASE)

.PHONY: test-cluster
test-cluster: environment environment-dev ## Install, drain, update and scale the chart on a real control plane; builds Kubernetes first (11 minutes)
	@.venv/bin/python -m deploy.helm.tools
	@.venv/bin/python -m tests.cluster.programs
	.venv/bin/pytest tests/cluster --capture=no --verbose

.PHONY: lint
lint: environment-dev ## ruff, mypy, buf
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.cache/buf/node_modules/.bin/buf lint

.PHONY: format
format: environment-dev ## Format the code
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: stubs
stubs: environment-dev ## Generate the client's stubs from protos/
	.venv/bin/python clients/python/generate_stubs.py

.PHONY: images
images: environment ## Build the images of services and models with Docker or buildah; IMAGES="perception-services perception-model-job"
	@.venv/bin/python -m deploy.docker.images build $(IMAGES)

.PHONY: pin-images
pin-images: environment ## Pin what the images stand on by digest, in deploy/docker/.env
	@.venv/bin/python -m deploy.docker.images pin

.PHONY: test-images
test-images: environment environment-dev ## Build the images over a Debian of debootstrap and run them (root, buildah, minutes)
	@.venv/bin/python -m deploy.helm.tools
	PERCEPTION_TEST_IMAGES=1 .venv/bin/pytest -v -s tests/deploy/docker

.PHONY: lock
lock: $(STAMPS)/supply-chain ## Lock every environment anew with hashes, after a change of pyproject.toml; UPGRADE=1 takes the newest versions
	@.venv-supply-chain/bin/python -m deploy.lock $(if $(UPGRADE),--upgrade)
	@npm install --silent --package-lock-only --omit-lockfile-registry-resolved --no-fund --no-audit --prefix deploy/locks/buf

.PHONY: audit
audit: $(STAMPS)/supply-chain ## Ask PyPI and npm which locked packages have known vulnerabilities; fails where it finds one or cannot ask
	@for lock in services-onnxruntime models triton supply-chain; do \
		echo "$$lock" && .venv-supply-chain/bin/pip-audit --strict --disable-pip --require-hashes \
			--progress-spinner=off --requirement deploy/locks/$$lock.txt || exit 1; done
	@echo buf && npm audit --package-lock-only --prefix deploy/locks/buf

.PHONY: sbom
sbom: $(STAMPS)/supply-chain ## Write the services' bill of materials, CycloneDX, into build/perception.cdx.json
	@.venv-supply-chain/bin/python -m deploy.sbom build/perception.cdx.json

.PHONY: environment
environment: $(STAMPS)/runtime $(STAMPS)/triton ## Install what `make run` needs into .venv and .venv-triton

.PHONY: environment-dev
environment-dev: $(STAMPS)/dev ## Install what the tests need into .venv

.PHONY: environment-models
environment-models: $(STAMPS)/models ## Install PyTorch and what trains and exports models into .venv-models (6 GB)

$(STAMPS)/runtime: deploy/locks/local.txt pyproject.toml clients/python/pyproject.toml clients/python/generate_stubs.py $(wildcard protos/perception/v1/*.proto)
	@mkdir -p $(STAMPS)
	@echo "installing .venv (half a minute the first time)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python $(PIP) $(LOCKED)/local.txt
	@$(QUIETLY) .venv/bin/python $(PIP) $(OURS)
	@touch $@

$(STAMPS)/dev: $(STAMPS)/runtime deploy/locks/dev.txt deploy/locks/buf/package-lock.json
	@echo "installing the test tools"
	@.venv/bin/python $(PIP) $(LOCKED)/dev.txt
	@mkdir -p .cache/buf && cp deploy/locks/buf/*.json .cache/buf
	@npm install --silent --ignore-scripts --no-fund --no-audit --prefix .cache/buf
	@touch $@

# Triton's python backend wants numpy 1, so the server has an environment of its own. Of nvidia-pytriton only the
# tritonserver binary and its libraries are used, so its own dependencies stay out.
$(STAMPS)/triton: deploy/locks/triton.txt
	@mkdir -p $(STAMPS)
	@echo "installing .venv-triton"
	@test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	@.venv-triton/bin/python $(PIP) $(LOCKED)/triton.txt || echo "Triton cannot be installed here; the services will run the models themselves"
	@touch $@

$(STAMPS)/models: deploy/locks/models.txt pyproject.toml
	@mkdir -p $(STAMPS)
	@echo "installing .venv-models (a minute or two the first time, 6 GB)"
	@test -x .venv-models/bin/python || $(PYTHON) -m venv .venv-models
	@.venv-models/bin/python $(PIP) $(LOCKED)/models.txt
	@$(QUIETLY) .venv-models/bin/python $(PIP) $(OURS)
	@touch $@

$(STAMPS)/supply-chain: deploy/locks/supply-chain.txt
	@mkdir -p $(STAMPS)
	@echo "installing .venv-supply-chain"
	@test -x .venv-supply-chain/bin/python || $(PYTHON) -m venv .venv-supply-chain
	@.venv-supply-chain/bin/python $(PIP) $(LOCKED)/supply-chain.txt
	@touch $@
