# Two commands on a fresh machine with Python 3.11 or 3.12, git and make:
#   make demo    installs, trains and compares three methods on the miniature, with half of its new knowledge
#   make test    installs and runs the tests
# Both install the exact versions of constraints.txt; with a GPU, torch is the CUDA build of the same version.
PYTHON ?= python3
VENV   ?= .venv
LOCK   ?= -c constraints.txt
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests start hundreds of Python processes. Without compiled files each would compile the packages again, so they are written
# even where the environment says otherwise.
PYTEST  = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# VLMEvalKit asks for 68 packages; the twelve benchmarks need only those that pyproject.toml already lists.
VLMEVAL = --no-deps ms-vlmeval==0.0.20

.PHONY: demo test slow lint format docs fidelity cli lock browser clean

demo: $(VENV)/.installed
	$(BIN)/python -m harness compare --preset demo --methods kore,lora,replay --workers 2

test: $(VENV)/.developing browser
	$(PYTEST) -n 2 --dist worksteal

slow: $(VENV)/.developing browser
	$(PYTEST) -m slow

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages as a site, in build/site; any warning is an error.
docs: $(VENV)/.developing
	$(PIP) $(LOCK) -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The table of choices, after a change of a preset.
fidelity: $(VENV)/.developing
	$(BIN)/python -m tools.fidelity_page

# The command line reference, after a change of an option.
cli: $(VENV)/.developing
	$(BIN)/python -m tools.cli_reference

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(LOCK) -e .
	$(PIP) $(VLMEVAL)
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(PIP) $(LOCK) -e ".[dev]"
	touch $@

# Write constraints.txt again, with the newest versions that pyproject.toml allows. Run the tests before you commit it.
# Without "+cpu", and without the CUDA libraries that torch pins itself, the file serves machines with and without a GPU.
lock:
	rm -rf build/lock
	$(MAKE) build/lock/.developing VENV=build/lock LOCK=
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check -e ".[docs,deepspeed,bitsandbytes]"
	echo "# The exact versions that the Makefile installs. Written by 'make lock'." > build/lock/constraints.txt
	build/lock/bin/python -m pip freeze --exclude-editable \
	  | sed -E -e 's/[+][A-Za-z0-9.]+$$//' -e '/^(nvidia-|cuda-|triton)/d' -e '/ @ /d' >> build/lock/constraints.txt
	mv build/lock/constraints.txt constraints.txt

# The leaderboard is tested in a real browser.
browser: $(VENV)/.developing
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null || command -v chromium-browser >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	else $(BIN)/python -m playwright install chromium; fi

clean:
	rm -rf $(VENV) runs build dist *.egg-info
