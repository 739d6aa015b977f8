# Every command of the project. `make demo` and `make test` do all the set-up on a machine that has
# Python >= 3.11, a C compiler and make; what else is needed is installed from PyPI into .venv.
#
#   make demo        segment a photograph, flag outliers, sample: pictures
#   make test        all tests but the slow ones        make test-slow   the slow ones
#   make lint        ruff, cython-lint, mypy            make sanitize    kernel tests under ASan and UBSan
#   make bench       the benchmark tables (an hour)     make dist        sdist, wheel from it, both tested
#   make venv        only the environment               make clean       away with all that was made
#
# Variables: PYTHON=python3.13 (another interpreter), ARGS="..." (more arguments for pytest or the benchmarks)

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check --quiet

KERNELS := src/fastgmm/kernels
COMPILED := setup.py $(wildcard $(KERNELS)/*.pyx $(KERNELS)/*.pxd $(KERNELS)/*.pxi $(KERNELS)/*.c $(KERNELS)/*.h)
SOURCES := pyproject.toml MANIFEST.in $(COMPILED) $(shell find src -name '*.py*' -not -name '*.pyc')

# Prints a list of requirements out of pyproject.toml, one a line; $(1): what to take from the table `t`.
requirements = import tomllib; t = tomllib.load(open('pyproject.toml', 'rb')); print(*$(1), sep='\n')

.PHONY: help venv demo test test-slow lint bench sanitize dist clean
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SECONDARY:

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

# ---- the environment: an editable install, compiled again when a compiled source changed ---------------

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "fastgmm needs Python >= 3.11, which '$(PYTHON)' is not." >&2; \
	  echo "Name another, as in: make PYTHON=python3.13 test" >&2; \
	  exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# Requirements as pyproject.toml states them: of the build, and of each extra.
$(VENV)/build.txt: $(VENV)/.created pyproject.toml
	@$(BIN)/python -c "$(call requirements,t['build-system']['requires'])" > $@

$(VENV)/%.txt: $(VENV)/.created pyproject.toml
	@$(BIN)/python -c "$(call requirements,t['project']['optional-dependencies']['$*'])" > $@

$(VENV)/.extra-%: $(VENV)/%.txt
	$(BIN)/python $(PIP) install -r $<
	@touch $@

# Installed once and after each change of pyproject.toml; else only what changed is compiled again.
$(VENV)/.compiled: $(VENV)/build.txt $(COMPILED)
	@if [ $(VENV)/.installed -nt $(VENV)/build.txt ]; then \
	  echo "compiling fastgmm"; \
	  $(BIN)/python setup.py --quiet build_ext --inplace; \
	else \
	  echo "installing fastgmm and what it needs into $(VENV) (it compiles: a minute or two)"; \
	  $(BIN)/python $(PIP) install -r $(VENV)/build.txt && \
	  $(BIN)/python $(PIP) install --no-build-isolation --editable . && touch $(VENV)/.installed; \
	fi
	@$(BIN)/python -c "from fastgmm.kernels import _pass; \
	  _pass.openmp_enabled() or print('WARNING: built without OpenMP, for one core only')" 2>/dev/null || :
	@touch $@

venv: $(VENV)/.compiled

# ---- what one does with it -----------------------------------------------------------------------------

demo: $(VENV)/.compiled $(VENV)/.extra-plot
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.compiled $(VENV)/.extra-test
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(VENV)/.compiled $(VENV)/.extra-test
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.compiled $(VENV)/.extra-lint
	$(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src # which calls pycodestyle by name
	$(BIN)/mypy

bench: $(VENV)/.compiled $(VENV)/.extra-bench
	$(BIN)/python benchmarks/run.py $(ARGS)

# ---- a sanitized copy, apart from the ordinary build ---------------------------------------------------

# The interpreter is not sanitized, so the run-time library has to be there before anything else, and with it
# libstdc++, or exceptions thrown in C++ libraries (SciPy's) would find it too late. Python's own allocator
# would hide overruns from the sanitizer; what Python never frees is no leak. A report ends the process
# and would be lost with it, were pytest to capture more than Python's own sys.stderr.
SANITIZED := build/sanitize
sanitize: CC := gcc
sanitize: $(SANITIZED)/.installed
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	$(SANITIZED)/venv/bin/python -m pytest -m "not slow" --capture=sys -p no:cacheprovider tests/kernels $(ARGS)

$(SANITIZED)/.installed: $(VENV)/test.txt $(SOURCES)
	rm -rf $(SANITIZED)/source
	mkdir -p $(SANITIZED)/source
	test -d $(SANITIZED)/venv || $(BIN)/python -m venv $(SANITIZED)/venv
	cp -R pyproject.toml setup.py README.md LICENSE src $(SANITIZED)/source
	find $(SANITIZED)/source -name '*.so' -delete
	$(SANITIZED)/venv/bin/python $(PIP) install -r $(VENV)/test.txt
	CC=$(CC) FASTGMM_SANITIZE=address,undefined \
	$(SANITIZED)/venv/bin/python $(PIP) install --no-cache-dir $(SANITIZED)/source
	@touch $@

# ---- what is shipped: the sdist, a wheel built from it, the sdist's tests on the wheel, elsewhere ------

dist: $(VENV)/.created
	rm -rf dist build/dist
	$(BIN)/python $(PIP) install "build>=1.2,<2"
	$(BIN)/python -m build
	$(PYTHON) -m venv build/dist/venv
	set -- dist/*.whl && build/dist/venv/bin/python $(PIP) install "$$1[test]"
	outside=$$(mktemp -d) && trap 'rm -rf "$$outside"' EXIT && \
	tar -xzf dist/*.tar.gz -C "$$outside" && cd "$$outside"/fastgmm-* && rm -r src && \
	"$(CURDIR)/build/dist/venv/bin/python" -m pytest -m "not slow" -p no:cacheprovider $(ARGS)

clean:
	rm -rf $(VENV) build dist wheelhouse src/fastgmm.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
	find src \( -name '*.so' -o -name '*.pyd' \) -delete
