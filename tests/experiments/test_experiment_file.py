"""An experiment file is read strictly, and refused before anything heavy is imported."""

import subprocess
import sys

import pytest

from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.settings.reading import read_settings

RATES = {"learning_rate": [1e-3, 1e-2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"baseline": "sft"}, "`baseline: sft` is not one of the arms lm_only, jepa"),
        ({"seeds": [1, 1]}, r"`seeds` are \[1, 1\]; give whole numbers from 0 and below 2\^32, each once"),
        ({"seeds": [2**32]}, r"`seeds` are \[4294967296\]"),
        ({"output_dir": __file__}, "`output_dir: .*` is a file. Name a directory"),
        ({"output_dir": f"{__file__}/below"}, "which is a file. Name another directory"),
        ({"seeds": []}, r"`seeds` is \[\]; it must be a list of one or more whole numbers\."),
        ({"seeds": 82.5}, "`seeds` is '82.5'; it must be a list"),
        ({"seeds": [1.0, 2]}, r"`seeds` is \['1.0', '2'\]; it must be a list of one or more whole numbers\."),
        ({"arms": {"lm_only": {}}}, "no arm beside the baseline"),
        ({"arms": None}, "`arms` is null; it must be a mapping"),
        ({"arms": {"lm_only": {}, "a": "prefix"}}, "`a` is 'prefix'; it must be a mapping"),
        ({"arms": {"lm_only": {}, "a": {"jepa_wieght": 1}}}, "line .*`jepa_wieght`. Did you mean `jepa_weight`"),
        ({"arms": {"lm_only": {}, "a": {"jepa_weight": -1}}}, "arm `a`: `jepa_weight` is -1"),
        ({"arms": {"lm_only": {}, "a": {"seed": 1}}}, "arm `a` sets `seed`, which the experiment sets for each cell"),
        ({"arms": {"lm_only": {}, "a": {"dataset_train_split": "test"}}}, "all arms train and test on the same rows"),
        ({"arms": {"lm_only": {}, "a": {"num_train_epochs": 8}}}, "sets `num_train_epochs`; all arms share steps"),
        (
            {"arms": {"lm_only": {}, "a": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}}},
            "sets `gradient_accumulation_steps`, `per_device_train_batch_size`; .* Put it under `settings`",
        ),
        ({"arms": {"lm_only": {}, "a": {"push_to_hub": True}}}, "each cell would overwrite the one published before"),
        ({"arms": {"lm_only": {}, "a": {"logging_steps": 2}}}, "`lm_only` and `a` train alike"),
        ({"arms": {"lm_only": {}, "a": {"jepa_weight": 1, "jepa_loss": "cosine"}}}, "`lm_only` and `a` train alike"),
        ({"arms": {"lm_only": {"jepa_weight": 0}, "a": {"jepa_weight": 0.0, "shuffle_pairs": True}}}, "train alike"),
        (
            {"arms": {"lm_only": {}, "a": {"target_column": "source"}}},
            "sets `target_column`; all arms train and test on",
        ),
        ({"arms": {"lm_only": {}, "a": {"view_columns": ["source", "target"]}}}, "sets `view_columns`; all arms"),
        ({"arms": {"lm_only": {}, "../a": {}}}, "the arm '../a' cannot name a directory"),
        ({"arms": {"lm_only": {}, "a|b": {}}}, r"the arm 'a\|b' cannot name a directory"),
        ({"arms": {"lm_only": {}, "pair-12-steps": {}}}, "ends as longer baselines do"),
        ({"arms": {"lm_only": {}, "LM_only": {}}}, "differs from another in upper and lower case alone"),
        ({"compared_with": {"lm_only": "jepa"}}, "has `lm_only: jepa`. Name one of the arms jepa, and the other arms"),
        ({"compared_with": {"jepa": "jepa"}}, "has `jepa: jepa`. Name one of the arms jepa, and the other arms"),
        ({"compared_with": {"jepa": "sft"}}, "has `jepa: sft`. Name one of the arms jepa, and the other arms"),
        ({"compared_with": {"jepa": ["lm_only", "lm_only"]}}, "has `jepa: lm_only, lm_only`. .* each once"),
        ({"compared_with": {"jepa": []}}, r"`jepa` is \[\]; it must be text or a list of one or more texts"),
        ({"settings": {"seed": 7}}, "`settings` has `seed`, which the experiment sets for each cell"),
        ({"settings": {"resume_from_checkpoint": "x"}}, "Cells train from the start, and resume by themselves"),
        ({"settings": {"data_seed": 7}}, "`data_seed` gives every seed the same order of rows"),
        ({"arms": {"lm_only": {}, "a": {"data_seed": 7}}}, "arm `a` sets `data_seed`, which the experiment sets"),
        ({"settings": {"auto_find_batch_size": True}}, "`auto_find_batch_size: true` gives an arm .* more steps than"),
        ({"recipe_settings": {"auto_find_batch_size": True}}, "`auto_find_batch_size: true` gives an arm"),
        ({"settings": {"dataset_streaming": True}}, "must know all rows"),
        (
            {"settings": {"load_best_model_at_end": True, "eval_strategy": "steps"}},
            "has `load_best_model_at_end: true`, which chooses by the split that scores the cells, `test`",
        ),
        (
            {"arms": {"lm_only": {}, "a": {"lr_scheduler_type": "greedy"}}},
            "arm `a` has `lr_scheduler_type: greedy`, which chooses by",
        ),
        (
            {"arms": {"lm_only": {}, "a": {"lr_scheduler_type": "reduce_lr_on_plateau"}}},
            "arm `a` has `lr_scheduler_type: reduce_lr_on_plateau`, which chooses by .* on a split of its own",
        ),
        (
            {"search": {"split": "validation", "grid": RATES | {"load_best_model_at_end": [False, True]}}},
            "arm `lm_only` has `load_best_model_at_end: true`",
        ),
        ({"arms": {"lm_only": {}, "a": {"dataloader_drop_last": True}}}, "`a` sets `dataloader_drop_last`; .* steps"),
        ({"settings": "max_steps"}, "`settings` is 'max_steps'.*it must be a mapping"),
        ({"primary_score": "accuracy"}, "allowed with `task: text` are strict, prefix, contains, stopped, capped"),
        ({"sedes": [1]}, "unknown key `sedes`. Did you mean `seeds`. Allowed are recipe, output_dir"),
        ({"evaluation": {"max_row": 1}}, "line .*unknown key `max_row`. Did you mean `max_rows`"),
        ({"evaluation": {"max_rows": "six"}}, "`max_rows` is 'six'; it must be a whole number or null"),
        ({"evaluation": {"max_rows": 0}}, "`max_rows` is 0; it must be at least 1"),
        ({"threshold": 90}, "`threshold` is 90.0; give a share of rows above 0, at most 1"),
        ({"threshold": 0.9}, "Set `every_steps` under `evaluation`"),
        ({"overlap": "ignore"}, "`overlap` is 'ignore'; it must be one of refuse, count"),
        ({"recipe": None}, "`recipe` is null; it must be text"),
        ({"search": {"grid": RATES}}, "`search`: `split` must be given"),
        ({"search": {"split": "test", "grid": RATES}}, "is the test split `test`"),
        ({"search": {"split": "validation"}}, "give either `grid`.* or `grids`"),
        ({"search": {"split": "validation", "grids": {"jepa": RATES}}}, "Give every arm a grid of its own"),
        (
            {"search": {"split": "validation", "grid": RATES | {"jepa_weight": [1]}}},
            "arm `lm_only` sets `jepa_weight`, which its grid would override",
        ),
        (
            {"search": {"split": "validation", "grids": {"lm_only": RATES, "jepa": {"jepa_weight": [1, 2]}}}},
            "the grid of arm `jepa` lacks `learning_rate`",
        ),
        (
            {"search": {"split": "validation", "grids": {"lm_only": RATES, "jepa": RATES | {"jepa_weight": [1, 2]}}}},
            r"different numbers of points \(lm_only 2, jepa 4\)",
        ),
        (
            {"search": {"split": "validation", "grid": RATES | {"jepa_dropout": [0, 0.5]}}},
            "arm `lm_only` has points that train alike: learning_rate 0.001, jepa_dropout 0.0; learning_rate 0.001, "
            "jepa_dropout 0.5. They have the same settings .* a grid of its own",
        ),
        ({"search": {"split": "validation", "grid": {"learning_rate": ["1e-3", 0.001]}}}, "points that train alike"),
        (
            {"search": {"split": "validation", "grid": RATES | {"logging_steps": [1, 2]}}},
            "learning_rate 0.001, logging_steps 1.0; learning_rate 0.001, logging_steps 2.0. They have the same",
        ),
        (
            {"search": {"split": "validation", "grid": RATES | {"seed": [1, 2]}}},
            "the grid of arm `lm_only` has `seed`, which the experiment sets for each cell. Remove it",
        ),
        ({"search": {"split": "validation", "grid": {"learning_rate": 1}}}, "give a list of values to try"),
        ({"search": {"split": "validation", "grid": RATES | {"num_train_epochs": [1, 2]}}}, "same number of steps"),
        ({"search": {"split": "validation", "grid": {"learning_rate": ["fast"]}}}, "`learning_rate` is 'fast'"),
    ],
)
def test_bad_experiments_are_refused_before_anything_runs(content, message, written):
    with pytest.raises(ValueError, match=message):
        read_experiment(written("bad", **content))


def test_the_seed_of_the_search_is_no_seed_of_the_comparison(written):
    """Whatever the seeds are, so that one can be added and the search stays as it is."""
    search = {"split": "validation", "grid": RATES}
    with pytest.raises(ValueError, match="`seeds` has 1000, the seed of the search"):
        read_experiment(written("searched", seeds=[1, 1000], search=search))
    assert read_experiment(written("unsearched", seeds=[1, 1000])).seeds == [1, 1000]


def test_a_recipe_and_an_experiment_are_not_taken_for_each_other(written):
    path = written("experiment")
    with pytest.raises(ValueError, match=r"recipe.yaml is a recipe.*Train it by `llm-jepa train .*recipe.yaml`"):
        read_experiment(path.with_name("recipe.yaml"))
    with pytest.raises(ValueError, match=r"is an experiment, no recipe. Run it by `llm-jepa compare"):
        read_settings(path)


def test_a_duplicate_arm_is_refused(written):
    path = written("twice")
    path.write_text(path.read_text() + "  tube: {jepa_objective: tube}\n  tube: {jepa_weight: 2}\n")
    text = path.read_text().replace("evaluation:", "evaluation_:")  # the arms stand last then
    path.write_text(text)
    with pytest.raises(ValueError, match="`tube` was given before, on line"):
        read_experiment(path)


def test_values_are_read_as_in_a_recipe_and_mappings_are_values(written):
    """`1e-3` is a number, `no` a choice, and a mapping stays one, down to the settings of a cell."""
    path = written("typed")
    text = path.read_text().replace("  jepa: {}", "  jepa:\n    learning_rate: 1e-3\n    save_strategy: no\n    ARGS")
    path.write_text(text.replace("ARGS", "lr_scheduler_kwargs: {num_cycles: 2, min_lr: 1e-5}"))
    settings = read_experiment(path).resolved("jepa")
    assert (settings["learning_rate"], settings["save_strategy"]) == (0.001, "no")
    assert settings["lr_scheduler_kwargs"] == {"num_cycles": 2, "min_lr": 1e-5}


def test_a_refusal_imports_no_torch(written):
    path = written("quick", seeds=[1, 1])
    program = (
        "import sys; from llm_jepa.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print({'torch', 'trl', 'transformers', 'datasets'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "compare", str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "set()\n"
    assert "`seeds` are [1, 1]" in done.stderr
