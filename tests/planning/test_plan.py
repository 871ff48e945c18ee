"""`llm-jepa plan`: hand-computed money, consistent figures, changes that make a recipe fit, clear errors."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from llm_jepa.cli import main
from llm_jepa.compute.devices import GPU, find_gpu
from llm_jepa.planning.calibration import Calibration
from llm_jepa.planning.changes import _Candidate, _candidates, _try, changes_that_fit
from llm_jepa.planning.estimate import Estimate, break_even_requests, hours_at_peak, hours_at_rate
from llm_jepa.planning.memory import LAUNCHES
from llm_jepa.planning.plan import RESERVED_BYTES, make_plan, plan_memory, verdict
from llm_jepa.planning.workload import ARMS, arm_names, draw_workload, with_arm
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.train import build_trainer
from tests.architectures import tiny_model
from tests.forks import TIMEOUT_SECONDS, fork
from tests.planning.conftest import write_model
from tests.tiny import tiny_tokenizer

REPOSITORY = Path(__file__).parents[2]


def recipe_of(settings: dict, **overrides) -> Recipe:
    return build_recipe(Path("recipe.yaml"), settings | overrides)


@pytest.fixture(scope="module")
def settings(settings, tmp_path_factory) -> dict:
    """A model of one layer; its plans are not compared with runs."""
    directory = tmp_path_factory.mktemp("plan")
    write_model(directory, hidden_size=128, intermediate_size=384, num_hidden_layers=1)
    return settings | {"model_name_or_path": str(directory)}


@pytest.fixture(scope="module")
def recipe_file(settings, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("plan") / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_hours_are_flops_over_the_share_of_the_peak_that_training_reaches():
    """3.6e18 FLOPs on a device of 1e15 a second: an hour at the whole peak."""
    assert hours_at_peak(3.6e18, 1e15) == Estimate(2.0, pytest.approx(1 / 0.35), 5.0)
    assert hours_at_rate(3.6e18, 1e15) == Estimate(pytest.approx(0.85), 1.0, pytest.approx(1.15))


def test_requests_that_repay_the_training():
    """A request of 1.8 s at 2 an hour costs 0.001; saving one in ten, 50 are repaid after 500,000."""
    requests = break_even_requests(Estimate(-1.0, 50.0, 100.0), request_seconds=1.8, price_per_hour=2.0, gain=0.1)
    assert requests == Estimate(0.0, pytest.approx(500_000), pytest.approx(1_000_000))


def test_the_launches_are_the_files_of_the_recipes():
    assert set(LAUNCHES) == {path.stem for path in (REPOSITORY / "recipes" / "accelerate").glob("*.yaml")} - {
        "multi-node"
    }


def test_the_arms_cost_what_their_tokens_say(settings):
    """Rows of one length: ratios lie between those of tokens, and tube's is 1; dropout is in the expectation."""
    plan = make_plan(recipe_of(settings, jepa_source_view="prefix", jepa_target="stop_gradient", jepa_dropout=0.75))
    arms = plan.arms
    assert list(arms) == ["SFT", "alone", "prefix", "prefix, stop-gradient", "tube", "this recipe"]
    conversation, target = (plan.view_tokens[name] for name in ("conversation", "target"))
    assert arms["SFT"].tokens_per_row == arms["tube"].tokens_per_row == conversation
    assert arms["prefix, stop-gradient"].tokens_per_row == conversation + 1
    assert arms["prefix, stop-gradient"].detached_tokens_per_row == target
    assert 1 < arms["prefix, stop-gradient"].ratio < arms["prefix"].ratio < arms["alone"].ratio < 2
    expected = 0.25 * arms["prefix, stop-gradient"].ratio + 0.75
    assert arms["this recipe"].ratio == pytest.approx(expected)
    assert (plan.rows, plan.steps, plan.verdict) == (8, 2, None)


def test_the_control_of_shuffled_pairs_is_counted_with_its_own_pairs_and_costs_the_same(settings):
    drawn = {
        is_control: draw_workload(recipe_of(settings, shuffle_pairs=is_control), "single", True)
        for is_control in (True, False)
    }
    assert all(row["partner_index"] != row["row_index"] for batch in drawn[True].batches for row in batch)
    assert drawn[True].tokens_per_row() == drawn[False].tokens_per_row()
    assert drawn[True].flops_per_row() == drawn[False].flops_per_row()


def test_steps_follow_rows_batch_accumulation_and_devices(settings):
    epochs = {"num_train_epochs": 3, "max_steps": -1}
    rows = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    recipe = recipe_of(settings, jepa_weight=0.0, **epochs, **rows)
    one, two = (make_plan(recipe, num_devices=n, launch=launch) for n, launch in ((1, "single"), (2, "multi-gpu")))
    assert (one.steps, two.steps) == (6, 3)
    assert two.arms["SFT"].flops_per_step == pytest.approx(2 * one.arms["SFT"].flops_per_step)
    assert two.memory.by_kind["communication"] == pytest.approx(one.memory.by_kind["weights"], rel=0.01)
    trainer = build_trainer(recipe)
    trainer.train()
    assert trainer.state.global_step == one.steps


def test_a_text_recipe_has_no_arms_of_pairs(settings, tmp_path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "lines with a number or a vowel"}\n' * 8)
    given = {key: value for key, value in settings.items() if key not in ("source_column", "target_column")}
    recipe = recipe_of(given, dataset_name=str(texts), jepa_objective="tube")
    assert list(make_plan(recipe).arms) == ["SFT", "tube", "this recipe"]


def test_a_recipe_of_several_objectives_has_arms_of_one(settings):
    """Their weights and the learning rate of their parameters would be refused there."""
    several = {"jepa_objective": ["pair", "tube"], "objective_weights": [1.0, 0.5], "predictor_learning_rate": 1e-3}
    recipe = recipe_of(settings, **several)
    assert arm_names(recipe, is_tokenised=False) == list(ARMS)
    assert {with_arm(recipe, name).training.jepa_objective for name in ARMS} == {"pair", "tube"}


def test_the_arms_of_a_recipe_have_no_option_without_an_effect(settings):
    """Options of its own objective would be refused in the arm `tube`."""
    for own in (
        {"jepa_objective": "step", "step_separator": " "},
        {"jepa_objective": "next_latent", "rollout_steps": 2},
    ):
        recipe = recipe_of(settings, **own)
        assert arm_names(recipe, is_tokenised=False) == ["SFT", "tube"]
        assert with_arm(recipe, "tube").training.jepa_objective == "tube"


def test_a_drafter_trained_alone_is_compared_with_sft(settings):
    """`lm_weight: 0` would leave SFT nothing to train."""
    alone = {"jepa_objective": "next_latent", "lm_weight": 0.0, "detach_backbone": True}
    recipe = recipe_of(settings, **alone)
    assert recipe.training.lm_weight == 0
    assert {with_arm(recipe, name).training.lm_weight for name in arm_names(recipe, is_tokenised=False)} == {1}


def test_rows_that_training_would_refuse_are_refused_but_not_those_of_other_arms(settings, tmp_path):
    """With 16 predictor tokens the prefix of a short answer is longer than its conversation, a question alone not."""
    rows = [{"source": "a", "target": "b"}] * 2 + [{"source": "a" * 40, "target": "b"}] * 2
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {"dataset_name": str(data), "num_predictor_tokens": 16, "long_rows": "error"}
    longest = max(map(len, draw_workload(recipe_of(settings, **given), "single", True).prepared.rows["input_ids"]))
    with pytest.raises(
        ValueError, match=f"line 3: the row has {longest} tokens; `max_length` is {longest - 1}. Raise"
    ):
        make_plan(recipe_of(settings, **given, max_length=longest - 1))
    recipe = recipe_of(settings, **given, max_length=longest)
    prefix = recipe_of(settings, **given, max_length=longest, jepa_source_view="prefix")
    with pytest.raises(ValueError, match="line 3: the row has"):
        draw_workload(prefix, "single", True)
    assert {with_arm(recipe, name).training.long_rows for name in ARMS} == {"drop"}
    candidate = _Candidate({"jepa_source_view": "prefix"}, "single", keeps_result=False)
    assert _try(draw_workload(recipe, "single", True), 1.0, candidate, find_gpu("h100-80gb"), 1) is not None


def test_arms_that_training_would_refuse_are_left_out(settings, tmp_path):
    """A template that rewrites targets leaves `tube` no answer to find; their views can be encoded."""
    template = tmp_path / "rewriting.jinja"
    template.write_text(
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | replace('[', '(') }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    for given, reason in (
        ({"chat_template_path": str(template)}, "rewrites the target"),
        ({"jepa_weight": 0.0, "label_smoothing_factor": 0.1}, "`label_smoothing_factor`"),
    ):
        recipe = recipe_of(settings, **given)
        plan = make_plan(recipe)
        assert list(plan.left_out) == ["tube"]
        assert reason in plan.left_out["tube"]
        names = arm_names(recipe, is_tokenised=False)
        assert list(plan.arms) == [name for name in names if name != "tube"] + ["this recipe"]


def test_a_change_that_training_would_refuse_is_none(settings):
    before = draw_workload(recipe_of(settings), "single", True)
    refused = _Candidate({"jepa_source_view": "prefix", "source_view_column": "source"}, "single", keeps_result=False)
    assert _try(before, 1.0, refused, find_gpu("h100-80gb"), 1) is None


def test_a_recipe_whose_rows_are_all_too_long_is_refused_as_in_training(settings):
    recipe = recipe_of(settings, max_length=8)
    for refuse in (make_plan, build_trainer):
        with pytest.raises(ValueError, match="All 8 rows of the train data are longer than `max_length: 8`"):
            refuse(recipe)


def test_changes_of_a_recipe_are_options_that_its_objective_has(settings):
    """`jepa_target: stop_gradient` is no change for codes, whose target has no forward; a prefix is."""
    recipe = recipe_of(settings, jepa_objective="answer_code")
    changes = changes_that_fit(recipe, find_gpu("h100-80gb"), 1, "single")
    views = [change.settings for change in changes if {*change.settings} & {"jepa_source_view", "jepa_target"}]
    assert views == [{"jepa_source_view": "prefix"}]


def test_a_step_that_an_epochs_end_cuts_short_counts_its_own_rows(settings):
    """8 rows, 4 a micro-batch: three accumulate to at most 8 rows a step, not 12."""
    plans = [make_plan(recipe_of(settings, jepa_weight=0.0, gradient_accumulation_steps=n)) for n in (2, 3)]
    assert plans[0].arms["SFT"].flops_per_step == plans[1].arms["SFT"].flops_per_step


def test_hours_of_a_calibration_with_dropout_do_not_depend_on_the_number_of_devices_but_by_division(settings):
    """The rate uses the dropped share of the timed steps; the training uses the expected share."""
    dropout = {"jepa_objective": "tube", "jepa_dropout": 0.5, "jepa_dropout_rescale": True}
    recipe = recipe_of(settings, max_steps=-1, num_train_epochs=2, **dropout)
    calibration = Calibration(1.0, 4.0, dropped_share=0.5, is_on_gpu=True)
    one, two = (
        make_plan(recipe, num_devices=n, launch=launch, calibration=calibration)
        for n, launch in ((1, "single"), (2, "multi-gpu"))
    )
    hours = [plan.arms["this recipe"].hours.expected for plan in (one, two)]
    assert hours[0] == pytest.approx(4 / 3600)  # 16 rows at 4 a second
    assert hours[1] == pytest.approx(hours[0] / 2)


def test_what_needs_a_gpu_is_counted_as_sdpa(settings):
    flash, flex, sdpa = (
        make_plan(recipe_of(settings, attn_implementation=attention)).arms
        for attention in ("flash_attention_2", "flex_attention", "sdpa")
    )
    assert flash == flex == sdpa


def test_tokenised_pairs_are_compared_with_sft_alone(settings, tmp_path):
    rows = tmp_path / "rows.jsonl"
    row = {
        "input_ids": [5, 6, 7, 8, 9],
        "labels": [-100, -100, 7, 8, 9],
        "source_ids": [3, 5, 6],
        "target_ids": [7, 8],
    }
    rows.write_text((json.dumps(row) + "\n") * 8)
    given = {key: value for key, value in settings.items() if key not in ("source_column", "target_column")}
    assert list(make_plan(recipe_of(given, dataset_name=str(rows))).arms) == ["SFT", "this recipe"]


def test_a_mixture_of_experts_is_refused_in_words(settings, tmp_path):
    model = tiny_model("mixtral")
    model.resize_token_embeddings(len(tiny_tokenizer()))
    model.save_pretrained(tmp_path / "moe")
    tiny_tokenizer().save_pretrained(tmp_path / "moe")
    with pytest.raises(ValueError, match="MixtralForCausalLM is a mixture of experts"):
        make_plan(recipe_of(settings, model_name_or_path=str(tmp_path / "moe")))


def with_room(num_bytes: float) -> GPU:
    return replace(find_gpu("h100-80gb"), memory_bytes=num_bytes + RESERVED_BYTES)


def test_the_cheapest_change_that_fits_comes_first_and_fits(settings):
    """With 70 % of the memory it needs, a smaller micro-batch fits and keeps the result."""
    recipe = recipe_of(settings)
    peak = plan_memory(draw_workload(recipe, "single", True), "single", 1).peak
    gpu = with_room(0.7 * peak.high)
    changes = changes_that_fit(recipe, gpu, 1, "single")
    assert changes[0].keeps_result
    assert changes[0].settings["per_device_train_batch_size"] < 4
    settings_after = settings | changes[0].settings
    after = plan_memory(draw_workload(recipe_of(settings_after), "single", True), "single", 1)
    assert verdict(after, gpu) == "fits"
    batch = settings_after["per_device_train_batch_size"] * settings_after["gradient_accumulation_steps"]
    assert batch == settings["per_device_train_batch_size"]
    order = [(not change.keeps_result, change.launch == "zero3-offload", change.flops_ratio) for change in changes]
    assert order == sorted(order)
    assert len([change for change in changes if change.settings.keys() == changes[0].settings.keys()]) == 1


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({}, [(2, True), (1, True)]),
        ({"jepa_regulariser": "sigreg"}, [(2, False)]),
        ({"jepa_regulariser": "vicreg"}, [(2, False)]),
        ({"jepa_loss": "info_nce"}, [(2, False)]),
    ],
)
def test_a_smaller_micro_batch_of_what_compares_its_rows_has_two_and_another_result(settings, option, expected):
    """Of four rows; size, and whether the result is kept."""
    recipe = recipe_of(settings, **option)
    batches = [one for one in _candidates(recipe, False, 1, "single") if one.is_smaller_batch]
    assert [(one.settings["per_device_train_batch_size"], one.keeps_result) for one in batches] == expected
    for one in batches:
        recipe_of(settings, **option, **one.settings)


def test_where_states_alone_are_too_large_devices_or_lora_must_help(settings):
    recipe = recipe_of(settings, per_device_train_batch_size=1, gradient_checkpointing=True)
    lasting = plan_memory(draw_workload(recipe, "single", True), "single", 1).by_kind
    gpu = with_room(lasting["weights"] + lasting["optimizer"])
    single = changes_that_fit(recipe, gpu, 1, "single")
    assert all("use_peft" in change.settings or change.launch == "zero3-offload" for change in single)
    several = changes_that_fit(recipe, gpu, 8, "multi-gpu")
    assert several[0].launch in ("zero2", "zero3")
    assert several[0].keeps_result


def test_the_command_prints_json_and_touches_no_weights(recipe_file, settings, tmp_path, capsys):
    """A model directory without weights can be planned."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in Path(settings["model_name_or_path"]).iterdir():
        if file.suffix != ".safetensors":
            (bare / file.name).write_bytes(file.read_bytes())
    options = [
        "--json",
        "--gpu",
        "h100-80gb",
        "--gpus",
        "8",
        "--price-per-hour",
        "2.5",
        "--request-seconds",
        "1.8",
        "--gain",
        "0.1",
    ]
    assert main(["plan", recipe_file, *options, "--gain", "0.1", "--model_name_or_path", str(bare)]) == 0
    plan = json.loads(capsys.readouterr().out)
    own, sft = plan["arms"]["this recipe"], plan["arms"]["SFT"]
    assert own["hours"]["expected"] == pytest.approx(own["flops_per_step"] * 2 / 8 / (989e12 * 0.35) / 3600)
    extra = (own["hours"]["expected"] - sft["hours"]["expected"]) * 8 * 2.5
    assert plan["money"]["cost_over_sft"]["expected"] == pytest.approx(extra)
    assert plan["money"]["break_even_requests"]["expected"] == pytest.approx(extra / (0.1 * 1.8 / 3600 * 2.5))
    assert plan["verdict"] == "fits"
    assert sum(plan["memory"]["by_kind"].values()) == pytest.approx(plan["memory"]["peak"]["expected"])
    assert {"packed", "rows"} == set(plan["activation_bytes"])


def test_a_calibrated_plan_goes_by_the_seconds_that_it_is_given(settings):
    """2 steps of 1,800 s are an hour."""
    recipe = recipe_of(settings, jepa_objective="next_latent")
    own = Calibration(1800.0, 4 / 1800, 0.0, is_on_gpu=True)
    plan = make_plan(recipe, calibration=own)
    assert plan.arms["this recipe"].hours.expected == pytest.approx(1.0)
    assert plan.arms["SFT"].hours.expected == pytest.approx(1 / plan.arms["this recipe"].ratio)
    sft = Calibration(2700.0, 4 / 2700, 0.0, is_on_gpu=True)
    plan = make_plan(recipe, calibration=own, sft_calibration=sft)
    assert plan.arms["SFT"].hours.expected == pytest.approx(1.5)


def test_the_command_calibrates_on_this_machine_and_leaves_nothing(recipe_file, tmp_path, capsys):
    place = ["--output_dir", str(tmp_path / "run")]
    assert main(["plan", recipe_file, "--calibrate", "--price_per_hour", "1", *place]) == 0
    printed = capsys.readouterr().out
    assert "cost:" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpu", "h1000"], "'h1000' is unknown. Known are"),
        (["--gpus", "0"], "`--gpus` is 0"),
        (["--gpus", "9"], "9 devices are more than the 8 rows"),
        (["--gpus", "2", "--launch", "single"], "is one process"),
        (["--gpu", "h100-80gb", "--calibrate"], "which has no h100-80gb"),
        (["--gpu", "t4-16gb"], "--bf16 false --fp16 true"),
        (["--price_per_hour", "nan", "--gpu", "l4-24gb"], "`--price_per_hour` is nan"),
        (["--gpu", "l4-24gb", "--gain", "0.1"], "no effect without `--request_seconds`"),
        (["--gpu", "t4-16gb", "--launch", "zero3"], "give `--gpus`"),
        (["--price_per_hour", "2"], "needs hours"),
        (["--gpu", "t4-16gb", "--request_seconds", "2"], "no effect without `--price_per_hour`"),
        (["--gpu", "l4-24gb", "--optim", "adafactor"], "`optim: adafactor`"),
    ],
)
def test_bad_options_are_one_line_each(recipe_file, options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["plan", recipe_file, *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def plans_on_a_gpu(recipe_file: str) -> bool:
    main(["plan", recipe_file, "--json", "--gpu", "h100-80gb"])
    return torch.cuda.is_initialized()


def test_planning_touches_no_gpu(recipe_file, tmp_path):
    """In its own process, CUDA is never initialised."""
    process = fork(tmp_path / "log", plans_on_a_gpu, recipe_file)
    process.join(TIMEOUT_SECONDS)
    assert process.exitcode == 0, (tmp_path / "log").read_text()
