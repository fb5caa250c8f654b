# Two commands on a fresh machine with Python 3.11 or 3.12, git and make:
#   make demo    installs, trains and compares three methods on the miniature
#   make test    installs and runs the tests
PYTHON ?= python3
# Installed first, so that nothing else picks a torch of its own. With a GPU this is the CUDA build of the same version.
TORCH  ?= torch==2.13.0
VLMEVAL = ms-vlmeval==0.0.20
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: demo test slow lint format browser clean

demo: $(VENV)/.installed
	$(BIN)/python -m harness compare --methods kore,lora,replay

test: $(VENV)/.developing browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/.developing browser
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.developing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	# VLMEvalKit asks for 68 packages; the twelve benchmarks need only those that pyproject.toml already lists.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "$(VLMEVAL)"
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

# The leaderboard is tested in a real browser.
browser: $(VENV)/.developing
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null || command -v chromium-browser >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	else $(BIN)/python -m playwright install chromium; fi

clean:
	rm -rf $(VENV) runs build dist *.egg-info
