# make book   an environment with exact pins, the notebooks at PRESET, the book; prints where it lies
# make read   the book of the committed study, whose notebooks are not executed again
# make archive   the same, then as one HTML file, and the results as one zip, in book/_build/archive
# make notebooks   the first part of make book; NOTEBOOKS="image_h1 image_h2" runs these alone
# make test   the same environment, lint and the test suite
# make lint   ruff, and which room imports which (import-linter)
# make check  what is long and rarely tells anything new: networks at full size, campaigns; before a release
# make clean  removes the environment and what the book build wrote; keeps .kpnb_store (results)

PYTHON ?= python3
PRESET ?= demo
# Tests run on so many cores, one thread each; a worker takes up to 4 GB (networks at full size).
WORKERS ?= 2

VENV := .venv
PY := $(VENV)/bin/python
# Into this environment, wherever else the user's pip.conf and PIP_... want packages to go.
PIP := PIP_PREFIX= $(PY) -m pip install --quiet --disable-pip-version-check --no-user --target=
# As a folder on the path, too, the package goes before a folder of its name, such as the clone seen
# from its parent. The path is relative: not every locale's Python can read another.
BESIDE := import sysconfig; open(sysconfig.get_path("purelib") + "/checkout.pth", "w").write("../../../..")
# Which notebooks are run; by default all of the book's.
NOTEBOOKS ?=
# The environment is as good as the two files that define it: their checksum names the stamp.
READY := $(VENV)/ready-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: book read archive notebooks test check lint clean

book: $(READY)
	@$(PY) -m book.make.execute --preset $(PRESET) --book $(NOTEBOOKS)

read: $(READY)
	@$(PY) -m book.make --preset study

archive: $(READY)
	@$(PY) -m book.make --preset study --archive

notebooks: $(READY)
	@$(PY) -m book.make.execute --preset $(PRESET) $(NOTEBOOKS)

test: lint
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(READY)
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile -m long
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile tests/check

lint: $(READY)
	@$(PY) -m ruff check .
	@$(VENV)/bin/lint-imports --no-logo --no-cache

clean:
	rm -rf $(VENV) book/_build book/_generated book/notebooks book/results/demo executed .snakemake

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kpnb needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "kpnb: setting up $(VENV) from requirements.lock (a few GB, once)"
	@$(PYTHON) -m venv --clear $(VENV) || \
		{ echo "kpnb: $(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@$(PY) -c '$(BESIDE)'
	@touch $@
