"""What an arm costs, and the steps in which the baseline computes as much."""

import re

import pytest

from llm_jepa.cli import main
from llm_jepa.compute.flops import StepCounts, model_size, step_flops
from llm_jepa.experiments import arm_cost, text_kind
from llm_jepa.experiments.arm_cost import recipe_model
from llm_jepa.experiments.cells import (
    Series,
    check_longer_searches,
    flop_matched_steps,
    longer_baselines,
    search_cells,
    spec_of,
)
from llm_jepa.experiments.common_rows import find_common_rows, recipe_of
from llm_jepa.experiments.interface import ArmCost
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.experiments.text_kind import TextTrainRows
from llm_jepa.inspection.prepared_recipe import prepare_recipe
from llm_jepa.planning.workload import draw_workload
from tests.experiments.conftest import ARMS, TUBE
from tests.tiny import PAIRS, tiny_tokenizer


def test_costs_by_hand_from_the_tokens_of_the_rows(written):
    """Prefix with stop-gradient: one predictor token in the conversation's row; the target's own forward has no
    gradient. Tube adds nothing."""
    experiment = read_experiment(written("costs", arms=ARMS | {"tube": TUBE}))
    common = find_common_rows(experiment)
    costs = {arm: common.cost(experiment.resolved(arm)) for arm in experiment.arms}
    assert costs["lm_only"] == costs["tube"]
    assert (costs["jepa"].num_rows, costs["jepa"].steps, costs["jepa"].rows_per_step) == (8, 2, 4)
    tokenizer = tiny_tokenizer()
    turns = [
        [{"role": "user", "content": one["source"]}, {"role": "assistant", "content": one["target"]}] for one in PAIRS
    ]
    conversations = [len(tokenizer.apply_chat_template(turn, return_dict=True)["input_ids"]) for turn in turns]
    targets = [len(tokenizer(f"<|im_start|>assistant\n{one['target']}")["input_ids"]) for one in PAIRS]
    predictors = len(PAIRS)
    added = StepCounts(
        0,
        predictors,
        sum(targets),
        0,
        sum((tokens + 1) ** 2 - tokens**2 for tokens in conversations),
        sum(tokens**2 for tokens in targets),
    )
    size = model_size(recipe_model(recipe_of(experiment, experiment.resolved("jepa"))))
    assert size.attention_width == 2 * 32
    expected = step_flops(added, size) / len(PAIRS)
    assert costs["jepa"].flops_per_row - costs["lm_only"].flops_per_row == pytest.approx(expected)


def test_arms_that_share_a_layout_are_prepared_once_and_cost_as_by_themselves(written, monkeypatch):
    """Four layouts: LM only, pairs, next latents, pairs with an averaged target. Longer and searched cells have none
    of their own."""
    next_latent = {"jepa_objective": "next_latent", "jepa_source_view": "alone", "jepa_target": "online"}
    arms = {
        "lm_only": {"jepa_weight": 0},
        "pair": {},
        "heavy": {"jepa_weight": 2, "lm_weight": 0.5},
        "dropout": {"jepa_dropout": 0.5},
        "ahead": next_latent,
        "ahead_no_kl": next_latent | {"kl_weight": 0},
        "ema": {"jepa_target": "ema", "jepa_source_view": "prefix"},
        "slow_ema": {"jepa_target": "ema", "jepa_source_view": "prefix", "ema_decay": 0.9},
    }
    search = {"split": "validation", "grid": {"learning_rate": [1e-3, 1e-2]}}
    experiment, prepared = read_experiment(written("shared", arms=arms, search=search)), []

    def prepare(recipe):
        prepared.append(recipe)
        return prepare_recipe(recipe)

    monkeypatch.setattr(text_kind, "prepare_recipe", prepare)
    common = find_common_rows(experiment)
    costs = {arm: common.cost(experiment.resolved(arm)) for arm in arms}
    for cell in search_cells(experiment, Series("pair")):
        spec_of(experiment, common, cell)
    assert common.fingerprint(experiment.resolved("lm_only", {"max_steps": 7}))
    assert len(prepared) == 4
    for arm in arms:
        settings = experiment.resolved(arm)
        alone = TextTrainRows(recipe_of(experiment, settings))
        assert alone.cost(recipe_of(experiment, settings), frozenset()) == costs[arm]
        assert alone.fingerprint(frozenset()) == common.fingerprint(settings)
    assert costs["ahead_no_kl"].flops_per_row < costs["ahead"].flops_per_row
    assert costs["lm_only"].flops_per_row < costs["dropout"].flops_per_row < costs["pair"].flops_per_row


def test_of_many_rows_some_at_even_distances_are_counted(written, monkeypatch):
    """Of 8 rows the 1st, 3rd, 5th and 7th; the number of rows stays 8."""
    experiment = read_experiment(written("sampled"))
    common = find_common_rows(experiment)
    settings = experiment.resolved("jepa")
    recipe, prepared = recipe_of(experiment, settings), common.train_rows(settings).prepared
    rows = list(prepared.rows)
    assert len(rows) == 8
    by_hand = arm_cost.count_arm(recipe, prepared, [rows[0], rows[2], rows[4], rows[6]])
    monkeypatch.setattr(arm_cost, "COUNTED_ROWS", 4)
    counted = arm_cost.count_arm(recipe, prepared, rows)
    assert (counted.num_rows, counted.flops_per_row) == (8, by_hand.flops_per_row)


def test_attention_is_counted_as_plan_counts_it(written):
    """One row, so that plan's micro-batch has no padding. Plan counts the layers by their operations."""
    settings = {
        "dataset_train_split": "train[:1]",
        "per_device_train_batch_size": 1,
        "activation_checkpointing": False,
    }
    experiment = read_experiment(written("attention", settings=settings))
    common = find_common_rows(experiment)
    recipe = recipe_of(experiment, experiment.resolved("lm_only"))
    planned = draw_workload(recipe, "single", scores_labels_only=True).flops_per_row()
    counted = common.cost(experiment.resolved("lm_only")).flops_per_row
    assert counted == pytest.approx(planned, rel=0.02)


def test_steps_of_equal_flops_by_hand():
    """Twice the FLOPs per row; then four times the rows per step as well."""
    assert flop_matched_steps(ArmCost(8, 100, 8, 3.24, 9), ArmCost(8, 100, 8, 2.0, 9)) == 162
    assert flop_matched_steps(ArmCost(64, 100, 32, 3.0, 9), ArmCost(64, 400, 8, 2.0, 9)) == 600


def test_the_longer_baselines_are_those_of_each_arm_or_of_the_costliest_with_the_same_baseline(written):
    """Costs of 1.1 and 1.5 of a baseline of 100 steps; an arm with baselines of its own is matched with each."""
    arms = {"lm_only": {"jepa_weight": 0}, "cheap": {"jepa_weight": 2}, "dear": {}, "other": {"learning_rate": 0.5}}
    factors = {"lm_only": 1.0, "cheap": 1.1, "dear": 1.5, "other": 3.0}
    costs = {arm: ArmCost(8, 100, 8, factor, 9) for arm, factor in factors.items()}

    def names(equal_flops: str) -> dict[str, list[str]]:
        path = written("longer", arms=arms, equal_flops=equal_flops, compared_with={"other": ["dear", "cheap"]})
        found = longer_baselines(read_experiment(path), costs)
        return {arm: [one.name for one in of_arm] for arm, of_arm in found.items()}

    own = {"other": ["dear-200-steps", "cheap-273-steps"]}
    assert names("each_arm") == {"cheap": ["lm_only-110-steps"], "dear": ["lm_only-150-steps"]} | own
    assert names("costliest_arm") == {"cheap": ["lm_only-150-steps"], "dear": ["lm_only-150-steps"]} | own
    assert names("none") == {}


def test_trained_parameters_are_those_of_the_model_or_of_its_adapters(written):
    """LoRA of rank 4 adds 4 (inputs + outputs) parameters to a matrix."""
    lora = {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"]}
    experiment = read_experiment(written("trained", arms=ARMS | {"lora": lora}))
    common = find_common_rows(experiment)
    model = recipe_model(recipe_of(experiment, experiment.resolved("lm_only")))
    found = {arm: common.cost(experiment.resolved(arm)).trained_parameters for arm in experiment.arms}
    layer = model.model.layers[0].self_attn
    ranks = sum(sum(part.weight.shape) for part in (layer.q_proj, layer.v_proj))
    assert found["lm_only"] == found["jepa"] == sum(one.numel() for one in model.parameters())
    assert found["lora"] == len(model.model.layers) * 4 * ranks


OWN_NETWORKS = {
    "one step": {"jepa_objective": "next_latent", "rollout_steps": 1},
    "two steps": {"jepa_objective": "next_latent", "rollout_steps": 2},
    "codes": {"jepa_objective": "answer_code", "jepa_source_view": "prefix", "num_predictor_tokens": 2},
    "codes of the source": {
        "jepa_objective": "answer_code",
        "jepa_direction": "target_to_source",
        "num_predictor_tokens": 2,
    },
}


@pytest.mark.parametrize("name", OWN_NETWORKS)
def test_a_network_costs_what_plan_counts_of_it(name, written):
    """Beside the tube, which costs what SFT costs: what it adds, forward and backward, one row without padding."""
    settings = {"dataset_train_split": "train[:1]", "per_device_train_batch_size": 1}
    settings |= {"activation_checkpointing": False}
    arms = ARMS | {"tube": TUBE, "own": TUBE | OWN_NETWORKS[name]}
    experiment = read_experiment(written("own-network", settings=settings, arms=arms))
    common = find_common_rows(experiment)
    added = {}
    for arm in ("tube", "own"):
        recipe = recipe_of(experiment, experiment.resolved(arm))
        planned = draw_workload(recipe, "single", scores_labels_only=True).flops_per_row()
        added[arm] = planned, common.cost(experiment.resolved(arm)).flops_per_row
    planned, counted = (added["own"][i] - added["tube"][i] for i in (0, 1))
    assert counted == pytest.approx(planned, rel=0.1)


def test_over_a_finished_model_a_forward_and_the_network_are_counted(written):
    """`lm_weight: 0`, detached: no weight of the model is trained, and plan's dry step finds as many FLOPs."""
    settings = {"dataset_train_split": "train[:1]", "per_device_train_batch_size": 1}
    settings |= {"activation_checkpointing": False}
    beside = TUBE | {"jepa_objective": "next_latent", "detach_backbone": True}
    arms = {"lm_only": {"jepa_weight": 0}, "beside": beside, "after": beside | {"lm_weight": 0}}
    experiment = read_experiment(written("finished", settings=settings, arms=arms))
    common = find_common_rows(experiment)
    beside, after = (common.cost(experiment.resolved(arm)) for arm in ("beside", "after"))
    assert (beside.trained_parameters > 0, after.trained_parameters) == (True, 0)
    recipe = recipe_of(experiment, experiment.resolved("after"))
    planned = draw_workload(recipe, "single", scores_labels_only=True).flops_per_row()
    assert after.flops_per_row == pytest.approx(planned, rel=0.03)
    assert after.flops_per_row < 0.8 * beside.flops_per_row


def test_an_arm_with_a_baseline_of_its_own_is_matched_with_that(written):
    """`small_jepa` computes 3 of what `small` computes as 2, so 100 of its steps are 150 of `small`'s."""
    arms = {
        "lm_only": {"jepa_weight": 0},
        "small": {"jepa_weight": 0, "max_length": 64},
        "small_jepa": {"max_length": 64},
    }
    experiment = read_experiment(written("own_baseline", arms=arms, compared_with={"small_jepa": "small"}))
    costs = {
        arm: ArmCost(8, 100, 8, flops, 9) for arm, flops in (("lm_only", 4.0), ("small", 2.0), ("small_jepa", 3.0))
    }
    assert experiment.baselines() == {"small": ["lm_only"], "small_jepa": ["small"]}
    expected = {"small": [Series("lm_only", 50)], "small_jepa": [Series("small", 150)]}
    assert longer_baselines(experiment, costs) == expected


def test_a_longer_baseline_searches_points_of_equal_cost_alone(written, capsys):
    """A point without loss dropout computes more than the one whose cost decides the steps."""
    costs_differ = {"learning_rate": [1e-3], "jepa_dropout": [0.0, 0.75]}
    content = {"arms": ARMS | {"shuffled": {"shuffle_pairs": True}}, "compared_with": {"jepa": "shuffled"}}
    grids = {"lm_only": {"learning_rate": [1e-3, 1e-2]}, "jepa": costs_differ, "shuffled": costs_differ}
    search = {"split": "validation", "grids": grids}
    path = written("unequal", **content, search=search)
    with pytest.raises(SystemExit):
        main(["compare", str(path)])
    points = r"\(learning_rate 0.001, jepa_dropout 0.75\) to .* \(learning_rate 0.001, jepa_dropout 0.0\)"
    assert re.search(f"points of the baseline `shuffled` differ in FLOPs .* {points}", capsys.readouterr().err)
    common = find_common_rows(read_experiment(path))
    assert not common.experiment.output_dir.exists()
    accepted = (
        {"search": search | {"longer_baseline": "inherit"}},
        {"search": search, "equal_flops": "none"},
        {"search": search, "compared_with": {}},
    )
    for changes in accepted:
        check_longer_searches(read_experiment(written("equal", **content | changes)), common)
