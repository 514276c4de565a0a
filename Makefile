# ovsnet. Two targets are for newcomers: `make demo` and `make test`. Both install what is missing.

SYSTEM_PYTHON := $(shell command -v /usr/bin/python3.13 || command -v /usr/bin/python3.12 || command -v /usr/bin/python3 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TREE := build/tree
DEBIAN := openvswitch-switch containernetworking-plugins nftables iproute2 iputils-arping iputils-ping \
	ethtool procps util-linux iptables iperf3 patchelf python3-venv

# What the cluster of real Kubernetes programs needs besides.
CLUSTER_DEBIAN := buildah busybox-static etcd-server mmdebstrap

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: install ## Run a three-node cluster on this machine and prove that its network works
	@$(BIN)/python -m ovsnet.sandbox.demo

.PHONY: test
test: install lint unit integration ## Run every check: style, types, layers, unit and integration tests

.PHONY: unit
unit: install ## Run the unit tests (no root needed)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/unit

.PHONY: integration
integration: install ## Run the integration tests (root; real Open vSwitch in network namespaces)
	@# Two files at a time share the machine with all that they start. What fails beside others is
	@# run once more alone, where it has to pass; both results stand in the output.
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/integration || { \
		echo "once more, alone: what failed beside others"; \
		$(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none tests/integration; }

.PHONY: integration-real
integration-real: install ## Run the integration tests on a real API server (root; needs Go)
	$(BIN)/python -m tests.conformance.integration

.PHONY: test-kernel
test-kernel: install ## Run the integration tests on the kernel's datapath (in QEMU; an hour or more)
	$(BIN)/python -m tests.kernel

.PHONY: bench
bench: install ## Measure the hot paths against their baselines
	$(BIN)/python -m tests.bench

.PHONY: docs
docs: install ## Write docs/pipeline.md and docs/agent.md from the code and from a real switch
	$(BIN)/python docs/pipeline.py
	$(BIN)/python docs/agent.py

.PHONY: manifests
manifests: install ## Write deploy/config/ from the code, and deploy/ovsnet.yaml from deploy/
	$(BIN)/python deploy/configuration.py
	kubectl kustomize deploy > deploy/ovsnet.yaml

.PHONY: conformance
conformance: install cluster-debian ## Run upstream's suites on a cluster of real Kubernetes programs (needs Go)
	tests/conformance/run all

.PHONY: conformance-quick
conformance-quick: install cluster-debian ## The same cluster: pods across nodes, a policy, a service
	tests/conformance/run quick

.PHONY: conformance-up
conformance-up: install cluster-debian ## Start that cluster and leave it running
	tests/conformance/run up

.PHONY: conformance-down
conformance-down: install ## Take it away
	tests/conformance/run down

# --- what has to be there ---

.PHONY: install
install: $(READY) ## Install Debian packages and the virtual environment, where missing

# Debian's packages of a list, where they are missing, and kubectl from wherever it is.
define with_packages
	@missing=$$(for p in $(1); do dpkg-query -Wf '$${db:Status-Status}\n' $$p 2>/dev/null \
		| grep -qx installed || echo $$p; done; command -v kubectl >/dev/null || echo kubernetes-client); \
	[ -z "$$missing" ] || { echo "installing Debian packages:" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }
endef

.PHONY: debian
debian:
	$(call with_packages,$(DEBIAN))

.PHONY: cluster-debian
cluster-debian:
	$(call with_packages,$(CLUSTER_DEBIAN))

$(READY): setup.cfg pyproject.toml tests/constraints.txt | debian
	@echo "installing Python packages into $(VENV)"
	@[ -x $(BIN)/python ] || $(SYSTEM_PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check \
		-c tests/constraints.txt -e '.[test]'
	@touch $@

# --- checks ---

.PHONY: lint style types imports
lint: style types imports ## Check style, types and the direction of imports

style: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install $(TREE)
	cd $(TREE) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/setup.cfg -p ovsnet

imports: install $(TREE)
	cd $(TREE) && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/setup.cfg --no-cache

# The folders as they are imported: mypy and import-linter want to see one package on disk.
.PHONY: $(TREE)
$(TREE):
	@mkdir -p $(TREE)/ovsnet
	@find $(TREE)/ovsnet -mindepth 1 -maxdepth 1 -type l -delete
	@for f in ovsnet/*; do case $$f in *__pycache__) ;; *) ln -sfn $(CURDIR)/$$f $(TREE)/$$f;; esac; done
	@ln -sfn $(CURDIR)/controller $(TREE)/ovsnet/controller
	@ln -sfn $(CURDIR)/cni-plugin $(TREE)/ovsnet/cni
	@ln -sfn $(CURDIR)/flows $(TREE)/ovsnet/flows

.PHONY: format
format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove what was built and installed here
	rm -rf $(VENV) build *.egg-info
