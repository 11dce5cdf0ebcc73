# The same targets by hand and in CI. Run `make setup` once, or activate an environment of your own.
export PATH := $(CURDIR)/.venv-dev/bin:$(PATH)

NPM := $(shell command -v npm)

.PHONY: setup check page page-tools test test-slow docs wheel bench figures stress demo

setup: ## a virtual environment with everything (torch 2.13.0 first: see "Training" in the README)
	python3 -m venv .venv-dev
	pip install -q torch==2.13.0
	pip install -q -e ".[train,audio,dev]"

check: page ## lint, format, types
	ruff check .
	ruff format --check .
	mypy

ifdef NPM
page-tools: tests/js/node_modules/.package-lock.json

tests/js/node_modules/.package-lock.json: tests/js/package.json tests/js/package-lock.json
	cd tests/js && npm ci --silent
	touch $@

page: page-tools ## the studio's page: types, lint
	cd tests/js && npm run --silent types && npm run --silent lint
else
page-tools page:
	@echo "no npm here: the types, the lint and the accessibility of the studio's page are not checked"
endif

test: ## the quick tests; MAESTRO_DIR=folder adds those on the real files, REQUIRE=browser makes a missing Chromium a failure
	python -m pytest

test-slow: ## the other tests
	python -m pytest -m slow

docs: ## the documentation site in site/, offline; a broken link or a page that is not in its navigation fails
	rm -rf site
	python docs/make_site.py site
	$(MAKE) --no-print-directory demo

demo: ## the studio's page as static files in site/demo/
	python tools/make_demo.py site/demo

wheel: ## the wheel and the source archive in dist/, checked and tried in clean environments
	.ci/wheel

bench: ## docs/bench/results.md: ours and the peers'; MAESTRO_DIR=folder adds training, preparation, the seed's failure
	python benchmarks/bench.py --out docs/bench
	test -z "$(MAESTRO_DIR)" || python benchmarks/seed_failure.py --maestro "$(MAESTRO_DIR)"
	python benchmarks/studio.py
	python benchmarks/studio_api.py

stress: ## damaged files, kill -9, full disks, a studio under siege: 40 minutes; short forms are among the tests (docs/trust.md)
	PYTHONPATH=tests python -m stress.midi
	PYTHONPATH=tests python -m stress.kill
	PYTHONPATH=tests python -m stress.disks
	PYTHONPATH=tests python -m stress.studio

figures: ## the pictures of the documentation
	python docs/make_figures.py
	python docs/make_screenshots.py
