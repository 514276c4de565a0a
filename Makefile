PYTHON ?= $(shell command -v /usr/bin/python3 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TREE := build/tree
PACKAGES := ovsnet controller cni-plugin flows

.PHONY: lint types imports style
lint: style types imports

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The folders as they are imported. mypy and import-linter want to see one package on disk.
$(TREE): FORCE
	@mkdir -p $(TREE)/ovsnet
	@find $(TREE)/ovsnet -mindepth 1 -maxdepth 1 -type l -delete
	@for f in ovsnet/*; do case $$f in *__pycache__) ;; *) ln -sfn $(CURDIR)/$$f $(TREE)/$$f;; esac; done
	@ln -sfn $(CURDIR)/controller $(TREE)/ovsnet/controller
	@ln -sfn $(CURDIR)/cni-plugin $(TREE)/ovsnet/cni
	@ln -sfn $(CURDIR)/flows $(TREE)/ovsnet/flows

types: $(TREE)
	cd $(TREE) && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/setup.cfg -p ovsnet

imports: $(TREE)
	cd $(TREE) && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/setup.cfg --no-cache

.PHONY: FORCE
FORCE:
