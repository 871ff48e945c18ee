"""benchmarks/step_cost.py: what it counts, that all arms get the same rows, and the whole tool on a tiny model."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llm_jepa.compute.flops import ModelSize, step_flops
from tests.tiny import save_tiny_model, tiny_tokenizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # where a script finds its neighbours
arms, counting, report, step_cost = map(importlib.import_module, ("arms", "counting", "step_cost_report", "step_cost"))

DEFAULT_ARMS = [arm for arm in arms.ARMS if arm not in arms.ASKED_ARMS]
DIGITS = [
    {
        "messages": [
            {"role": "user", "content": f"lines with {digit}"},
            {"role": "assistant", "content": f".*{digit}.*"},
        ]
    }
    for digit in range(10)
]
"""Rows that differ, all of the same length."""
LONG_ROW = {"messages": [{"role": "user", "content": "a" * 300}, {"role": "assistant", "content": "b"}]}

# The matrices of `tiny_llama`: two layers of q and o (32 x 32), k and v (16 x 32), three of an MLP (64 x 32); a head.
BACKBONE = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
HEAD = 320 * 32


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> str:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module", autouse=True)
def tool(model_path, tmp_path_factory, python):
    """The tool at work on all arms, while the other tests run."""
    directory = tmp_path_factory.mktemp("tool")
    data, output = directory / "digits.jsonl", directory / "out.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in [LONG_ROW, *DIGITS]))
    sizes = ["--batch_size", "2", "--warmup", "1", "--steps", "2", "--rounds", "2", "--max_length", "128"]
    command = [python, str(BENCHMARKS / "step_cost.py"), "--model", model_path, "--data", str(data)]
    command += [*sizes, "--no_memory", "--output", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process, output
    process.kill()
    process.wait()


def scaling_options(model_path, tmp_path, *names: str):
    sizes = ["--length", "9", "--batch_size", "2", "--warmup", "1", "--steps", "2", "--num_predictor_tokens", "3"]
    options = step_cost.parse_options(["--scaling", "predictor_tokens", *sizes, "--arms", *names])
    options.model_path, options.output_dir = model_path, str(tmp_path)
    return options


def test_flops_of_a_step_are_those_worked_out_by_hand():
    """7 tokens with gradient, 3 without, 2 labels; a backbone of 100, a head of 10, adapters of 5 parameters."""
    counts = counting.BatchCounts(5, 7, 3, 2, positions=20)
    full = ModelSize(100, 10, 100, 10)
    assert step_flops(counts, full) == 7 * (200 + 400) + 3 * 200 + 2 * (20 + 40)
    lora = ModelSize(105, 10, 5, 0)
    forward, backward = 2 * 105, 2 * 105 + 2 * 5
    assert step_flops(counts, lora) == 7 * (forward + backward) + 3 * forward + 2 * (20 + 20)
    assert step_flops(replace(counts, attention_pairs=9), ModelSize(100, 10, 0, 0, 8)) == 10 * 200 + 2 * 20 + 9 * 32
    sft = counting.BatchCounts(5, 5, 0, 2, positions=20)
    assert counting.floor([counts, sft], [sft, sft], full) == (4920 + 3120) / (2 * 3120)


def test_the_quartiles_with_loss_dropout_weigh_dropped_and_kept_steps_by_what_is_expected():
    """Three of four steps are kept here, where a quarter is expected to be."""
    ratios, is_dropped = [1.0, 1.0, 2.0, 3.0], [False, True, False, False]
    assert report.expected(ratios, is_dropped, 0.75) == [0.75 + 0.25 * 1.5, 0.75 + 0.25 * 2, 0.75 + 0.25 * 2.5]
    assert report.expected([1.0, 3.0], [False, False], 0.0) == [1.5, 2.0, 2.5]


def test_seeds_of_the_rounds_have_steps_of_both_kinds():
    steps = range(3, 8)
    seeds = [seed for seed, _ in zip(step_cost.mixed_seeds(4, steps), range(5), strict=False)]
    flags = {
        seed: [step_cost.is_dropped(seed, step, arms.DROPOUT) for step in steps] for seed in range(4, seeds[-1] + 1)
    }
    assert seeds == [seed for seed, drops in flags.items() if any(drops) and not all(drops)]


def test_tokens_of_synthetic_rows_are_those_worked_out_by_hand(model_path, tmp_path):
    """Rows of 9 tokens, 4 of the source and 5 of the target, and three predictor tokens; two rows in a step."""
    options = scaling_options(model_path, tmp_path, "sft", "alone", "prefix", "prefix_sg")
    rows = arms.prepared_rows(options, tiny_tokenizer())
    added_and_detached = {"sft": (0, 0), "alone": (4 + 3 + 5, 0), "prefix": (3 + 5, 0), "prefix_sg": (3, 5)}
    for arm, (added, detached) in added_and_detached.items():
        model = arms.load_model(options, "full")
        trainer = arms.new_trainer(arm, model, rows[arm], tiny_tokenizer(), options, output_dir=str(tmp_path))
        counts = counting.count_step(next(iter(trainer.get_train_dataloader())), is_dropped=False)
        tokens, detached_tokens = 2 * (9 + added), 2 * detached
        positions = tokens + detached_tokens
        assert counts == counting.BatchCounts(2 * 9, tokens, detached_tokens, 2 * 5, positions=positions), arm


def test_peak_memory_is_that_of_a_process_of_its_own(model_path, tmp_path):
    """More than a bare Python, and not the 1 GiB that this process holds meanwhile."""
    options = scaling_options(model_path, tmp_path, "sft")
    rows = arms.prepared_rows(options, tiny_tokenizer())
    held = np.ones(2**30, dtype=np.uint8)
    peaks = step_cost.fresh_peaks(options, "full", rows)
    assert 100 * 2**20 < peaks["sft"] < held.nbytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--arms prefix alone", "add it"),
        ("--steps 1", "--steps is 1; it must be at least 2"),
        ("--source_column question", "give both or neither"),
        ("--scaling length --values 0 64", "lengths and batches begin at 1"),
        ("--scaling batch --data rows.jsonl", "--data has no effect"),
        ("--values 1 2", "--values has no effect"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        step_cost.parse_options(arguments.split())
    assert message in capsys.readouterr().err


def test_too_few_rows_for_a_round_are_an_error(model_path, tmp_path):
    data = tmp_path / "digits.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in DIGITS))
    options = step_cost.parse_options(["--data", str(data), "--batch_size", "4", "--arms", "sft"])
    options.output_dir = str(tmp_path)
    with pytest.raises(ValueError, match="needs 40 rows; there are 10"):
        arms.prepared_rows(options, tiny_tokenizer())


# --- the whole tool


@pytest.fixture(scope="module")
def result(tool):
    process, output = tool
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout, stderr, output.read_text()


def test_the_tool_prints_a_row_for_every_arm_of_both_tables(result):
    stdout, _, _ = result
    assert [line for line in stdout.splitlines() if line.startswith("###")] == [
        "### method full, batch_size 2",
        "### method lora, batch_size 2",
    ]
    assert [line.split()[1] for line in stdout.splitlines() if line.startswith("| ")] == ["arm", *DEFAULT_ARMS] * 2


def test_another_arm_begins_each_round(result):
    _, stderr, _ = result
    first_round = [line.split(": ")[1] for line in stderr.splitlines() if line.startswith("full, round 1 of 2: ")]
    second_round = [line.split(": ")[1] for line in stderr.splitlines() if line.startswith("full, round 2 of 2: ")]
    assert first_round == DEFAULT_ARMS
    assert second_round == [*first_round[1:], first_round[0]]


def test_the_json_tells_what_was_run_and_where_but_no_path(result, model_path):
    content = json.loads(result[2])
    assert content.keys() == {"arguments", "hardware", "versions", "commit", "tables"}
    assert content["hardware"].keys() == {"cpu", "cores", "threads", "gpu"}
    assert content["versions"].keys() == {"python", "torch", "transformers", "trl", "peft", "accelerate", "datasets"}
    arguments = content["arguments"]
    assert [arguments[name] for name in ("model", "data", "output")] == ["tiny", "digits.jsonl", "out.json"]
    assert str(Path(model_path).parent) not in result[2]


def test_every_arm_saw_the_same_rows_in_the_same_steps(result):
    """Two timed steps of two rounds; steps of one round differ."""
    for table in json.loads(result[2])["tables"]:
        batches = {
            name: [digest for one in arm["rounds"] for digest in one["batches"]] for name, arm in table["arms"].items()
        }
        assert len(set(batches["sft"][:2])) == len(set(batches["sft"][2:])) == 2
        assert all(seen == batches["sft"] for seen in batches.values())


def test_conversation_tokens_are_those_of_the_rows(result):
    """Two rows in a step, none of them the long one, none of them padded."""
    tokens = 2 * len(tiny_tokenizer().apply_chat_template(DIGITS[0]["messages"], return_dict=False))
    for table in json.loads(result[2])["tables"]:
        for name, arm in table["arms"].items():
            counts = [step for one in arm["rounds"] for step in one["counts"]]
            assert [step["conversation_tokens"] for step in counts] == [tokens] * 4, name
            if name in ("sft", "weight_0", "sft_labelled", "tube"):
                assert [step["tokens"] for step in counts] == [tokens] * 4, name
                assert arm["summary"]["padding_share"] == 0
                assert arm["summary"]["floor"] == 1


def test_the_floor_of_the_arms_follows_from_their_tokens(result):
    """Worked out from the sizes of the tiny model, and ordered as the arms are cheaper and cheaper."""
    full, lora = json.loads(result[2])["tables"]
    sizes = {"backbone_parameters": BACKBONE, "head_parameters": HEAD}
    sizes |= {"trained_parameters": BACKBONE, "trained_head_parameters": HEAD}
    assert full["model_size"] == sizes | {"attention_width": 2 * 4 * 8, "width": 32}  # layers, heads, width of a head
    # r = 16: rank times (inputs + outputs) of q, k, v, o, gate, up, down, in two layers
    adapters = 2 * 16 * (64 + 48 + 48 + 64 + 96 + 96 + 96)
    assert lora["model_size"]["backbone_parameters"] == BACKBONE + adapters
    assert (lora["model_size"]["trained_parameters"], lora["model_size"]["trained_head_parameters"]) == (adapters, 0)
    sft, prefix_sg = (full["arms"][name]["rounds"][0]["counts"][0] for name in ("sft", "prefix_sg"))
    assert prefix_sg["tokens"] == sft["tokens"] + 2
    head = 6 * HEAD * sft["labelled_tokens"]
    by_hand = 6 * BACKBONE * prefix_sg["tokens"] + 2 * BACKBONE * prefix_sg["detached_tokens"] + head
    floors = {name: arm["summary"]["floor"] for name, arm in full["arms"].items()}
    assert floors["prefix_sg"] == pytest.approx(by_hand / (6 * BACKBONE * sft["tokens"] + head))
    assert floors["prefix_sg_dropout"] == pytest.approx(0.75 + 0.25 * floors["prefix_sg"])
    assert floors["alone"] > floors["prefix"] > floors["prefix_sg"] > floors["prefix_sg_dropout"] > 1


def test_ratios_are_taken_step_by_step(result):
    for table in json.loads(result[2])["tables"]:
        sft = table["arms"]["sft"]
        assert sft["summary"]["ratio_quartiles"] == [1, 1]
        alone = table["arms"]["alone"]
        ratios = [
            mine / theirs
            for one, other in zip(alone["rounds"], sft["rounds"], strict=True)
            for mine, theirs in zip(one["seconds"], other["seconds"], strict=True)
        ]
        assert alone["summary"]["ratio"] == pytest.approx(np.median(ratios))
