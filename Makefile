# `make quickstart` and `make test` do all the set-up: each makes .venv if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
QUICKSTART := recipes/nl_rx/smollm2-135m-lora.yaml
QUICKSTART_VL := recipes/vl/openmoji

.PHONY: quickstart quickstart-vl test lint docs schema clean

quickstart: $(VENV)/.runtime
	$(BIN)/llm-jepa fetch-model smollm2-135m-instruct
	$(BIN)/python data/nl_rx.py --output_dir data/nl_rx
	$(BIN)/llm-jepa train $(QUICKSTART)
	$(BIN)/llm-jepa eval $(QUICKSTART) --dataset_test_split 'test[:100]' --max_new_tokens 48 --eval_batch_size 50

quickstart-vl: $(VENV)/.runtime
	for model in efficientnet-lite0 minilm-l6-v2 smollm2-135m-instruct; do $(BIN)/llm-jepa fetch-model $$model || exit 1; done
	test -d data/openmoji_scenes || $(BIN)/python data/openmoji_scenes.py --output_dir data/openmoji_scenes
	for recipe in $(QUICKSTART_VL) $(QUICKSTART_VL)-blind; do \
	  $(BIN)/llm-jepa train $$recipe.yaml && $(BIN)/llm-jepa eval $$recipe.yaml --eval_batch_size 64 || exit 1; done
	$(BIN)/llm-jepa inspect $(QUICKSTART_VL).yaml --rows 60 --html outputs/vl/openmoji.html \
	  --runs outputs/vl/openmoji outputs/vl/openmoji-blind

test: lint
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.runtime
	$(INSTALL) -e '.[docs]'
	$(BIN)/python docs/draw_row.py
	$(BIN)/python docs/options_table.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The JSON schema of recipes, after a change of an option or of TRL's version.
schema: $(VENV)/.runtime
	$(BIN)/python -m llm_jepa.recipe_schema

# torch first: the constraint pins the version, and everything else then takes what is there.
$(VENV)/.runtime: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e .
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(INSTALL) -e '.[dev,index,sentence-transformers,quantization,eval,deepspeed,trackers]'
	touch $@

clean:
	rm -rf $(VENV) outputs
