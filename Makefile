# make run    draw sixteen glyphs for "gold" with the model that ships, to out/
# make test   every test, linter and type check
# make docs   build the documentation site, its reference from the docstrings, to out/docs/
# make numbers   fill the measured tables of README.md and docs/sampling.md from the reports behind them
# make figures   draw the figures of the guide to docs/figures/ and into the package
# make hero   record the first screen's drawings as the moving picture that README shows, docs/pictures/hero.webp
# make notebook   run docs/guide.ipynb and keep in it what it shows
# make guide  build the page of the visual guide from web/ into the package (needs Node 20)
# make bench  measure zaozi beside its peers to docs/benchmarks.md (15 minutes on two cores)
# make test-browser   build the guide, try it in Chromium and measure it with Lighthouse (needs Node 20 and chromium)
# make wheel  build the wheel to out/wheel/
# make test-wheel   install the wheel away from this repository and use it
# make lock   write requirements.lock anew, after a change of pyproject.toml or constraints.txt
# make sbom   list what the package is made of and what it needs to out/sbom.json, in CycloneDX's format
# All make the environment in .venv first, or reuse it when it is current.

PYTHON ?= python3
BIN := .venv/bin
# npm before 11 does not install Vite's native parts
NPM = $(shell npm --version 2>/dev/null | grep -q '^1[1-9]' && echo npm || echo npx --yes npm@11)

.PHONY: run test env lint docs numbers figures hero notebook bench guide web test-browser wheel test-wheel lock sbom clean

run: env
	$(BIN)/zaozi generate "gold" --count 16 --out out
	@$(BIN)/python -c 'from zaozi.cli.main import first_commands; print(first_commands("$(BIN)/zaozi"))'

test: env lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: env
	$(BIN)/mkdocs build --strict

numbers: env
	$(BIN)/python tools/numbers_of_docs.py

figures: env
	$(BIN)/zaozi guide figures out/figures
	mkdir -p docs/figures && cp out/figures/*.png out/figures/*.mp4 docs/figures/
	$(BIN)/python tools/pack_guide.py --figures

hero: env
	$(BIN)/python -m zaozi.guide.hero out/hero
	cp out/hero/hero.webp docs/pictures/hero.webp

notebook: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt nbclient ipykernel
	PYTHONWARNINGS=ignore $(BIN)/jupyter execute --inplace docs/guide.ipynb

out/benchmarks/peers: benchmarks/requirements.txt | env
	rm -rf $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ -r $<
	@touch $@

bench: out/benchmarks/peers
	PYTHONPATH=$(CURDIR)/out/benchmarks/peers $(BIN)/python -m benchmarks $(QUICK)

web/node_modules: web/package.json web/package-lock.json
	cd web && $(NPM) ci --no-audit --no-fund --loglevel=error
	@touch $@

web: env web/node_modules
	$(BIN)/python tools/page_counts.py > web/counts.json
	$(BIN)/python tools/page_code.py > web/code.json
	cd web && npm test && npm run build

guide: env web
	$(BIN)/python tools/pack_guide.py

test-browser: guide
	git diff --exit-code --stat -- src/zaozi/guide/site ':!*.xz'
	$(BIN)/zaozi guide build out/guide-test --overwrite
	web/browser/run.sh $(CURDIR)/$(BIN) $(CURDIR)/out/guide-test $(CURDIR)/out/browser

wheel: env
	rm -rf out/wheel
	$(BIN)/python -m hatchling build -t wheel -d out/wheel

test-wheel: wheel
	tools/try_wheel.sh $(CURDIR)/$(BIN) $(CURDIR)/out/wheel/*.whl

lock: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	sh tools/lock.sh

sbom: env
	$(BIN)/python tools/sbom.py out/sbom.json

env:
	@PYTHON="$(PYTHON)" sh tools/environment.sh

clean:
	rm -rf .venv out
