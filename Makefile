# Needs make and Python 3.10 or newer; everything else goes into .venv on first use. Another Python: make lab PYTHON=python3.12
# pip's own settings (PIP_INDEX_URL, ...) are honored. Paths are relative to this folder, so its own path may hold spaces.
PYTHON    ?= python3
LAB_FLAGS ?=
NOTEBOOK  ?=
ROUTE     ?=
SERVE     ?=
HOW       ?=
TORCH     ?=
NUMPY     ?=
# On Linux without a GPU: make lab TORCH_INDEX=URL, the index URL that PyTorch's own page gives for pip and CPU, takes the small build
TORCH_INDEX ?=
# from there, but for what pip's own settings name: a wrong URL is an error, and not 5.5 GB
small  = $(if $(TORCH_INDEX),$(1)/bin/python -m pip install --disable-pip-version-check --no-deps --index-url "$(TORCH_INDEX)" $(2) &&)

venv   := .venv
peers  := .venv-peers
other  := .venv-torch-$(TORCH)
python := $(venv)/bin/python
pytest := $(python) -m pytest -p no:cacheprovider
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
test check notebooks mutants browser docs parity: export OMP_NUM_THREADS := 1
test check notebooks mutants browser docs parity: export OMP_WAIT_POLICY := passive

.PHONY: help lab slides handout docs test check notebooks mutants browser package anywhere parity setup clean
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(venv)/course.stamp  ## open the course in JupyterLab; options: LAB_FLAGS="--no-browser --port=8899"
	@JUPYTERLAB_WORKSPACES_DIR=$(venv)/workspaces $(python) -m jupyterlab --ServerApp.root_dir="$$(pwd)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	$(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_FLAGS)

slides: $(venv)/slides.stamp  ## the notebooks as decks, served here; the lecture: ROUTE=lecture; only build: SERVE=0
	@SERVE="$(SERVE)" $(python) tools/slides.py $(if $(ROUTE),--route $(ROUTE))

handout: $(venv)/course.stamp  ## build/handout: notebooks without outputs and solutions, and one page that prints
	@$(python) tools/handout.py

docs: $(venv)/docs.stamp  ## build/docs: pages, notebooks and reference as a site to read without installing anything
	@$(python) tools/build_site.py

test: $(venv)/test.stamp  ## unit tests, doctests, and every notebook executed and compared
	@start=$$(date +%s); status=0; \
	$(pytest) -q -n 2 -p no:nbval --doctest-modules minideeplab tests || status=1; \
	$(pytest) -q -n 2 --dist loadscope --nbval --nbval-current-env --nbval-cell-timeout 300 notebooks || status=1; \
	echo "make test: $$(( $$(date +%s) - start )) s, exit status $$status"; exit $$status

check: $(venv)/test.stamp $(venv)/lint.stamp  ## ruff, mypy --strict and the notebooks' contract, in under 45 s
	@start=$$(date +%s); status=0; \
	$(python) -m ruff check --quiet . && $(python) -m ruff format --quiet --check . || status=1; \
	$(python) -m mypy || status=1; \
	$(pytest) -q -p no:nbval tests/test_notebooks.py tests/test_environment.py || status=1; \
	echo "make check: $$(( $$(date +%s) - start )) s, exit status $$status"; exit $$status

notebooks: $(venv)/test.stamp  ## execute the notebooks and rewrite all outputs canonically; one only: NOTEBOOK=04
	@$(python) tools/regenerate.py $(NOTEBOOK)

mutants: $(venv)/test.stamp  ## break a copy of the library in known ways: each must turn a notebook red
	@$(python) tools/mutants.py

browser: $(venv)/browser.stamp  ## notebook 01 in a real JupyterLab in headless Chromium (another: NOTEBOOK=04), docs/explorer.html, every slide, every page of the site
	@$(python) tools/browser.py $(or $(NOTEBOOK),01)
	@$(python) tools/browser_explorer.py
	@$(python) tools/browser_slides.py
	@$(python) tools/browser_site.py

package: $(venv)/package.stamp  ## build/package: wheel and source archive; the wheel alone, used in an empty environment
	@$(python) tools/package.py

anywhere: $(if $(TORCH),$(other)/test.stamp,$(venv)/test.stamp)  ## the notebooks on fewer instructions, on AVX2 and on two threads; another torch: TORCH=2.4.1 NUMPY=1.26.4
	@$(if $(TORCH),$(other)/bin/python,$(python)) tools/anywhere.py $(or $(HOW),$(if $(TORCH),plain,))

parity: $(peers)/peers.stamp  ## the same numbers as timm, torchvision and smp; their environment takes 5.5 GB
	@$(peers)/bin/python -m pytest -p no:cacheprovider -q tests/peers

setup: $(venv)/test.stamp $(venv)/lint.stamp $(venv)/docs.stamp $(venv)/browser.stamp $(venv)/package.stamp  ## install everything the targets need, in advance

clean:  ## remove caches and build/; rm -r .venv starts over
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./$(venv) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

# Set-up: one stamp for each extra of pyproject.toml, written when all is done; a change of the pins installs again. While pip
# works there is $(venv)/unfinished: found at the next start, pip was killed, packages may be half there, and .venv is made anew.
.PHONY: $(venv)/unfinished
$(venv)/python.stamp: $(wildcard $(venv)/unfinished)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	{ echo "minideeplab needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | tail -n 1). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "first set-up: PyTorch and what '$(or $(MAKECMDGOALS),help)' needs go into .venv here, nowhere else; rm -r .venv takes it back."
	@echo "With PyTorch's CPU build: about 1.5 GB of disk and a few minutes."
	@[ "$$(uname)" != Linux ] || [ -n "$(TORCH_INDEX)" ] || { echo "On Linux pip takes PyTorch's CUDA build: about 5.5 GB. Without a GPU stop now (Ctrl-C) and say"; \
	echo "    make $(MAKECMDGOALS) TORCH_INDEX=URL    (the index URL that PyTorch's own page gives for Linux, pip, CPU)"; }
	@{ $(PYTHON) -m venv --clear $(venv) && $(python) -m pip --version > /dev/null; } || \
	{ echo "no virtual environment: on Debian and Ubuntu, install python3-venv"; exit 1; }
	@touch $@

$(venv)/%.stamp: pyproject.toml constraints.txt $(venv)/python.stamp
	@echo "setting up .venv for '$*' (log: $(venv)/$*.log)"
	@touch $(venv)/unfinished
	@{ $(call small,$(venv),-c constraints.txt torch) \
	$(python) -m pip install --disable-pip-version-check -c constraints.txt -e ".[$*]"; } > $(venv)/$*.log 2>&1 || \
	{ rm -f $(venv)/unfinished; tail -n 20 $(venv)/$*.log; echo "set-up of '$*' failed: is the network there$(if $(TORCH_INDEX), and a torch at TORCH_INDEX)? The whole log is $(venv)/$*.log; the same command tries again"; exit 1; }
	@mkdir -p $(venv)/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' > $(venv)/share/jupyter/lab/settings/overrides.json
	@rm -f $(venv)/unfinished
	@touch $@

$(other)/test.stamp: pyproject.toml constraints.txt
	@echo "setting up $(other) (5.5 GB with a CUDA build, log: $(other)/test.log); rm -r $(other) gives it back"
	@$(PYTHON) -m venv --clear $(other)
	@grep -v -E '^torch==$(if $(NUMPY),|^numpy==)' constraints.txt > $(other)/constraints.txt
	@{ $(call small,$(other),torch==$(TORCH)) \
	$(other)/bin/python -m pip install --disable-pip-version-check -c $(other)/constraints.txt torch==$(TORCH) \
	$(if $(NUMPY),numpy==$(NUMPY)) -e ".[test]"; } > $(other)/test.log 2>&1 || { tail -n 20 $(other)/test.log; exit 1; }
	@touch $@

$(peers)/peers.stamp: tests/peers/requirements.txt
	@echo "setting up $(peers) (5.5 GB, log: $(peers)/peers.log)"
	@$(PYTHON) -m venv --clear $(peers)
	@{ $(peers)/bin/python -m pip install --disable-pip-version-check -r $< && \
	$(peers)/bin/python -m pip install --disable-pip-version-check --no-deps -e . ; } > $(peers)/peers.log 2>&1 || { tail -n 20 $(peers)/peers.log; exit 1; }
	@touch $@
