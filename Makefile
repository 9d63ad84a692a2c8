# make run    draw sixteen glyphs for "gold" with the model that ships, to out/
# make test   every test, linter and type check
# Both make the environment in .venv first, or reuse it when it is current.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test env lint clean

run: env
	$(BIN)/zaozi generate "gold" --count 16 --out out

test: env lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

env:
	@PYTHON="$(PYTHON)" sh tools/environment.sh

clean:
	rm -rf .venv out
