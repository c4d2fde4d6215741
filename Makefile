PYTHON ?= python3
# A file of tests at a time on each core. For a debugger: make test PARALLEL= ARGS="--pdb tests/…"
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-lowest lint wheel clean .venv .venv-lowest

demo: .venv  ## the whole story on one slide, on a CPU, in minutes
	.venv/bin/dirl demo --out demo

test: .venv  ## the default tests; add ARGS="-m slow" for the long ones
	.venv/bin/python -m pytest $(PARALLEL) $(ARGS)

# Old releases warn of a newer Python or torch, so warnings are no errors here.
test-lowest: .venv-lowest  ## the default tests with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest $(PARALLEL) -W default $(ARGS)

lint: .venv  ## style, types (of the tests, too), spelling and plain English
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/codespell
	.venv/bin/python tests/english.py

# The first environment has the tools. The second has nothing but the wheel and what it requires.
wheel:  ## sdist and wheel in dist/, checked, and tried in an empty environment
	rm -rf dist
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check build twine
	.venv-wheel/bin/python -m build --outdir dist
	.venv-wheel/bin/python -m twine check --strict dist/*
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	.venv-wheel/bin/python -I tests/installed.py

.venv: .venv/made

# The stamp comes last, so that an interrupted installation is made again.
.venv/made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dirl needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv-lowest: .venv-lowest/made

.venv-lowest/made: pyproject.toml tests/lowest.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || \
	  { echo "old releases need Python 3.11 or 3.12; name one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) tests/lowest.py >.venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
	  --requirement .venv-lowest/lowest.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-lowest .venv-wheel build dist demo
