# make workbook   install, run the quick study, print the path of its report (start here)
# make test       install the test tools and run the tests
# make soak       the long tests: new random inputs, kills, damaged files, many kernels, mutations; prints tables
# make check      lint, format, types, import layers
# make install    only make .venv
# make lab        JupyterLab on notebooks/, on localhost with its token
# make book       guide, executed notebooks, results and API pages as one site: build/book/index.html
# make bench      time hdarts against plain PyTorch: ratios and a figure in results/bench/ (15 minutes)
# make clean      remove .venv and generated files; runs/ stays (make clean-runs removes it)
#
# With another Python (3.11 or newer): make install PYTHON=python3.12

PYTHON ?= python3
# the tested versions; PINS= installs the newest that fit
PINS ?= -c constraints.txt
STUDY ?= params/studies/quick.yaml
# `make check` checks the subjects of the commits since this one
SUBJECTS_SINCE ?= a718eb1
BIN := .venv/bin
# stamps in .venv: installs again only if pyproject.toml or constraints.txt have changed
INSTALLED := .venv/installed
TESTABLE := .venv/testable
BOOKABLE := .venv/bookable

.DELETE_ON_ERROR:
.PHONY: workbook test soak check install lab book bench clean clean-runs

workbook: $(INSTALLED)
	$(BIN)/hdarts run $(STUDY)

test: $(TESTABLE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(TESTS)

soak: $(TESTABLE)
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=drawn $(BIN)/python -m pytest -n 2 -m "hypothesis or soak"
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutations.py

check: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	@git log --format=%s $(SUBJECTS_SINCE)..HEAD 2>/dev/null | awk 'length > 72 { print "commit subject over 72 characters: " $$0; bad = 1 } END { exit bad }'

install: $(INSTALLED)

lab: $(INSTALLED)
	$(BIN)/jupyter lab --ip=localhost --notebook-dir=notebooks $$(test $$(id -u) != 0 || echo --allow-root)

book: $(BOOKABLE)
	$(BIN)/python -m hdarts.workbook.book $(STUDY)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.presets

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hdarts needs Python 3.11 or newer, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PINS) -e .
	touch $@

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check $(PINS) -e '.[test]'
	$(BIN)/python -m pip install --disable-pip-version-check $(PINS) torchopt || \
		echo "notice: TorchOpt could not be installed; the test that compares with it will be skipped"
	touch $@

$(BOOKABLE): $(INSTALLED)
	$(BIN)/python -m pip install --disable-pip-version-check $(PINS) -e '.[book]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './runs/*' -prune -exec rm -rf {} +

clean-runs:
	rm -rf runs
