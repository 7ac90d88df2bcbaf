# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
BIN := .venv/bin
# The tests start hundreds of processes; without bytecode each would compile its imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test arithmetics slow lint bench docs lock clean

help:
	@echo "make demo    a face detector forgets a person, with a report to look at"
	@echo "make test    the tests; make slow: the long proofs; make lint: style and types"
	@echo "make arithmetics   the tests under several instruction sets and numbers of threads (an hour)"
	@echo "make bench   speed and quality, as ratios; make docs: the command reference"
	@echo "make setup   only make .venv with the command .venv/bin/expunge; make clean: remove what was made"
	@echo "make lock    pin the dependencies anew (make lock UPGRADE=--upgrade: with newer versions)"

setup:
	@$(PYTHON) scripts/setup.py

demo: setup
	@$(BIN)/expunge demo --out demo $(ARGS)

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

arithmetics: setup
	$(BIN)/python scripts/arithmetics.py $(ARGS)

slow: setup
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

docs: setup
	$(BIN)/python scripts/commands.py docs/commands.md

lock: setup
	$(BIN)/python scripts/lock.py $(UPGRADE)

clean:
	rm -rf .venv demo runs dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
