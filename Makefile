PYTHON ?= python3

.PHONY: demo test lint clean .venv

demo: .venv  ## the whole story on one slide, on a CPU, in minutes
	.venv/bin/dirl demo --out demo

test: .venv  ## the default tests; add ARGS="-m slow" for the long ones
	.venv/bin/python -m pytest $(ARGS)

lint: .venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.venv: .venv/made

# The stamp comes last, so that an interrupted installation is made again.
.venv/made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dirl needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build demo
