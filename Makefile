# Perception: frames in, panoptic scenes out. `make help` lists the targets.

PROFILE ?= demo
PORT_BASE ?= 50050
ENGINE ?= auto
SOURCE ?=
BESIDE ?=
MODEL ?= detector
OUT ?= out

PYTHON ?= python3.11
PIP := -m pip install --quiet --disable-pip-version-check
# setuptools says at every editable installation that folders may be imported by their names.
QUIETLY := PYTHONWARNINGS=ignore
STAMPS := .cache/environments
BARE := deploy/requirements-without-dependencies.txt
# glibc gives large tensors back to the kernel after every step and asks for them anew; kept, with huge pages, a step on
# a CPU takes half the time.
TRAINING_MEMORY = MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=500000000 THP_MEM_ALLOC_ENABLE=1
# Hundreds of processes start and die in these tests, some by a clock: what fails on a busy machine has one more chance
# and is listed as RERUN; what fails twice has failed.
ONCE_MORE = --reruns 1 --reruns-delay 5 -r fEsxXR
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
up: environment ## Leave the system running, with the page that shows its cameras; PROFILE=… PORT_BASE=53050
	@.venv/bin/perception up --detach --profile $(PROFILE) --port-base $(PORT_BASE) --engine $(ENGINE)

.PHONY: status
status: ## Show the processes of what `make up` left running, and which were started again; PORT_BASE=…
	@.venv/bin/perception status --port-base $(PORT_BASE)

.PHONY: down
down: ## Stop what `make up` left running; PORT_BASE=…
	@.venv/bin/perception down --port-base $(PORT_BASE)

.PHONY: evaluate
evaluate: environment ## Measure the running system and its models; PROFILE=demo|coco|camvid BESIDE=another profile
	@.venv/bin/perception evaluate --profile $(PROFILE) $(addprefix --beside ,$(BESIDE)) --port-base $(PORT_BASE) --engine $(ENGINE)

.PHONY: train
train: environment-models ## Train MODEL=detector|mask_rcnn|faster_rcnn|bisenet|classifier|bisenet_camvid into runs/
	@$(TRAINING_MEMORY) .venv-models/bin/python -m models.training --model $(MODEL)

.PHONY: test
test: environment environment-dev environment-models lint ## Run every check and test
	.venv/bin/pytest $(ONCE_MORE)
	.venv-models/bin/python -m pytest $(ONCE_MORE) $(TORCH_TESTS)

.PHONY: test-resilience
test-resilience: environment environment-dev ## Overload the system, kill and stop its processes, let hostile callers in, and print what became of each request (15 minutes)
	RESILIENCE_SECONDS=$${RESILIENCE_SECONDS:-120} .venv/bin/pytest tests/resilience --capture=no --verbose

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

.PHONY: environment
environment: $(STAMPS)/runtime $(STAMPS)/triton ## Install what `make run` needs into .venv and .venv-triton

.PHONY: environment-dev
environment-dev: $(STAMPS)/dev ## Install what the tests need into .venv

.PHONY: environment-models
environment-models: $(STAMPS)/models ## Install PyTorch and what trains and exports models into .venv-models (6 GB)

$(STAMPS)/runtime: pyproject.toml clients/python/pyproject.toml clients/python/generate_stubs.py $(BARE) $(wildcard protos/perception/v1/*.proto)
	@mkdir -p $(STAMPS)
	@echo "installing .venv (half a minute the first time)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(QUIETLY) .venv/bin/python $(PIP) --editable clients/python --editable '.[local]'
	@$(QUIETLY) .venv/bin/python $(PIP) --no-deps --requirement $(BARE)
	@touch $@

$(STAMPS)/dev: $(STAMPS)/runtime
	@echo "installing the test tools"
	@$(QUIETLY) .venv/bin/python $(PIP) --editable clients/python --editable '.[local,dev]'
	@npm install --silent --no-fund --no-audit --prefix .cache/buf @bufbuild/buf@1.75.0
	@touch $@

# Triton's python backend wants numpy 1, so the server has an environment of its own. Of nvidia-pytriton only the
# tritonserver binary and its libraries are used, so its own dependencies stay out.
$(STAMPS)/triton: deploy/triton-requirements.txt
	@mkdir -p $(STAMPS)
	@echo "installing .venv-triton"
	@test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	@$(QUIETLY) .venv-triton/bin/python $(PIP) --no-deps --requirement deploy/triton-requirements.txt || echo "Triton cannot be installed here; the services will run the models themselves"
	@touch $@

$(STAMPS)/models: pyproject.toml $(BARE)
	@mkdir -p $(STAMPS)
	@echo "installing .venv-models (a minute or two the first time, 6 GB)"
	@test -x .venv-models/bin/python || $(PYTHON) -m venv .venv-models
	@$(QUIETLY) .venv-models/bin/python $(PIP) --editable clients/python --editable '.[local,models,dev]'
	@$(QUIETLY) .venv-models/bin/python $(PIP) --no-deps --requirement $(BARE)
	@touch $@
