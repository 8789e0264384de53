# One place for every command a person or CI runs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup htcondor demo test fuzz bench attack docs kubernetes check format lint types imports requirements clean

help: ## Lists the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Makes .venv with everything at the pinned versions and compiles what is new here; installs the sandbox's system packages where it may
	@sh scripts/system_packages.sh
	@$(RUN)/python -m compileall -q dms actors proto

$(STAMP): pyproject.toml requirements/dev.txt scripts/bootstrap_uv.py
	@uv=$$($(PYTHON) scripts/bootstrap_uv.py) && \
	"$$uv" venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	"$$uv" pip sync --quiet --compile-bytecode --python $(RUN)/python requirements/dev.txt && \
	"$$uv" pip install --quiet --python $(RUN)/python --no-deps --editable . && \
	touch $(STAMP)

htcondor: setup ## Unpacks HTCondor of Debian into .tools, for the tests of clusters; nothing of this machine's is touched
	@$(RUN)/python scripts/unpack_htcondor.py

demo: setup ## A real market of four nodes on this machine, shown at work
	@$(RUN)/python -u scripts/demo.py

test: setup ## Runs every test
	@$(RUN)/pytest -n 3 --dist worksteal

check: setup format lint types imports test ## Everything CI would complain about

fuzz: setup ## The long fuzzers: a million wire frames, a million calls, libp2p for 20 s, and 500 markets of the real actors
	@$(RUN)/python scripts/fuzz_wire.py --frames 1000000
	@$(RUN)/python scripts/fuzz_rpc.py --frames 1000000
	@DMS_FUZZ_SECONDS=20 $(RUN)/pytest -q tests/fault/net/test_fuzz.py
	@DMS_SEEDS=500 $(RUN)/pytest -q -n 2 tests/unit/actors/test_seeded_market.py

bench: setup ## Measures everything the project claims, beside its floor; JSON goes to bench/results/
	@$(RUN)/python -m bench

attack: setup ## Measures an honest pair while each attacker of the kit is at work
	@$(RUN)/python -m bench attacks

docs: setup ## Generates the reference pages and builds the site into site/
	@$(RUN)/python scripts/gen_docs.py && uv=$$($(PYTHON) scripts/bootstrap_uv.py) && \
	"$$uv" pip install --quiet --python $(RUN)/python --requirement requirements/docs.txt && $(RUN)/mkdocs build --strict --quiet

kubernetes: ## Builds a Kubernetes from source for the tests that want one: some ten minutes, with Go, gcc and libseccomp-dev
	@sh scripts/kubernetes/build.sh .tools/kubernetes

format: setup
	@$(RUN)/ruff format --check .

lint: setup
	@$(RUN)/ruff check .

types: setup
	@$(RUN)/mypy

imports: setup
	@$(RUN)/lint-imports

requirements: ## Re-pins requirements/ from pyproject.toml (after changing a dependency)
	@uv=$$($(PYTHON) scripts/bootstrap_uv.py) && flags="--quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url" && \
	"$$uv" pip compile $$flags pyproject.toml -o requirements/run.txt && \
	"$$uv" pip compile $$flags pyproject.toml --group dev -o requirements/dev.txt && \
	"$$uv" pip compile $$flags --group docs -o requirements/docs.txt

clean: ## Removes everything that was built
	rm -rf $(VENV) .tools site dist build
