"""Every recipe is executable, and trains two steps on a tiny random model of its own architecture and chat template.

The rows have the schema of its data set. What a conversation must look like is written out in tests/paper_models.py.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

from llm_jepa.data.views import IGNORED_LABEL
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.run import evaluate
from llm_jepa.experiments.significance import MIN_SEEDS
from llm_jepa.experiments.spec_reading import read_experiment
from llm_jepa.layouts import PackedLayout
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.objectives.predictor import new_predictor
from llm_jepa.recipe import Recipe, parse_recipe
from llm_jepa.scoring.tasks import score_names
from llm_jepa.settings.objectives import has_parameters, needs_spans, needs_views
from llm_jepa.train import train
from llm_jepa.trainer import JEPATrainer
from tests.paper_models import FAMILIES, Family, family_of, save_family
from tests.preparers.prepared_sets import prepare, read
from tests.preparers.scripts import load_script
from tests.tiny import PAIRS

ROOT = Path(__file__).parent.parent
FOLDERS = ("nl_rx", "gsm8k", "spider", "banking77", "trivia")
RECIPES = sorted(path for folder in FOLDERS for path in (ROOT / "recipes" / folder).glob("*.yaml"))
PLANNING = sorted((ROOT / "recipes" / "planning").glob("*.yaml"))
EXPERIMENTS = sorted((ROOT / "recipes" / "experiments").glob("*.yaml"))
every_recipe = pytest.mark.parametrize("path", RECIPES + PLANNING, ids=lambda path: f"{path.parent.name}/{path.stem}")

ROWS = {
    "nl_rx": PAIRS[:4],
    "gsm8k": [
        {
            "source": f"Ann has {n} pens and buys {n} more.\nHow many pens has she?",
            "target": f"She buys {n}.\nShe has {n}+{n}=<<{n}+{n}={2 * n}>>{2 * n} pens.\n#### {2 * n}",
        }
        for n in (2, 15, 40, 600)
    ],
    "spider": [
        {"source": f"For db_id:[{db_id}]\n\nHow many {table}s are there?", "target": sql, "db_id": db_id}
        for db_id, table, sql in (
            ("concert_singer", "singer", "SELECT count(*) FROM singer"),
            ("pets_1", "pet", "SELECT count(*) FROM pets"),
            ("car_1", "maker", "SELECT count(DISTINCT maker) FROM car_makers"),
            ("flight_2", "airline", "SELECT count(*) FROM airlines AS T1 WHERE T1.country = 'USA'"),
        )
    ],
    "banking77": [
        {"source": f"{question} {word}?", "target": intent}
        for question, intent in (
            ("Where is my", "card arrival"),
            ("Why is there a fee on my", "card payment fee charged"),
        )
        for word in ("card", "order")
    ],
    "trivia": [
        {"source": "\n".join([question, *(f"- {choice}" for choice in choices)]), "target": answer, "choices": choices}
        for question, answer, *choices in (
            ("Which is a bird?", "Wren", "Wren", "Cod", "Ant", "Yak"),
            ("Which is a fish?", "Cod", "Wren", "Cod", "Ant", "Yak"),
            ("Which is a river?", "Nile", "Etna", "Oslo", "Nile", "Mars"),
            ("Which is a planet?", "Mars", "Etna", "Oslo", "Nile", "Mars"),
        )
    ],
}


@dataclass(frozen=True)
class Run:
    """A recipe after two steps on all four rows each, and what it started from."""

    recipe: Recipe
    family: Family
    trainer: JEPATrainer
    base: str

    @property
    def prepared(self) -> list[dict]:
        """The rows as the trainer has them, in the data set's order."""
        return sorted(self.trainer.train_dataset, key=lambda row: row["row_index"])

    @property
    def texts(self) -> list[dict[str, str]]:
        """Each row's prompt, completion and views, by hand."""
        family, system = self.family, self.recipe.training.system_prompt or ""
        rows = [row | {"system": system} for row in ROWS[Path(self.recipe.settings["dataset_name"]).name]]
        return [
            {
                "prompt": family.prompt.format(**row),
                "completion": family.completion.format(**row),
                "source": row["source"],
                "target": row["target"],
                "alone_source": family.source_header + row["source"],
                "alone_target": family.target_header + row["target"],
            }
            for row in rows
        ]

    def decode(self, token_ids: list[int]) -> str:
        return self.trainer.processing_class.decode(token_ids)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Model directories by family, and data directories by the name of the data set."""
    directory = tmp_path_factory.mktemp("tiny")
    for name, rows in ROWS.items():
        (directory / name).mkdir()
        for split in ("train", "test"):
            (directory / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = {name: save_family(family, directory / f"model-{name}") for name, family in FAMILIES.items()}
    return models, directory


@pytest.fixture(scope="module", params=RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def run(request, tiny, tmp_path_factory) -> Run:
    """One run for all tests of a recipe: two steps of four rows, the whole data each."""
    models, data = tiny
    family = family_of(parse_recipe([str(request.param)]).settings["model_name_or_path"])
    base = models[next(name for name, other in FAMILIES.items() if other is family)]
    overrides = {
        "model_name_or_path": base,
        "dataset_name": data / request.param.parent.name,
        "dataset_train_split": "train",
        "output_dir": tmp_path_factory.mktemp("run") / "out",
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # as a recipe's paths are written
        recipe = parse_recipe([str(request.param), *(f"--{key}={value}" for key, value in overrides.items())])
        trainer = train(recipe)
    assert trainer is not None
    return Run(recipe, family, trainer, base)


def test_the_completion_and_its_stop_token_are_learnt_and_nothing_else(run):
    for row, text in zip(run.prepared, run.texts, strict=True):
        learnt = [label for label in row["labels"] if label != IGNORED_LABEL]
        start = row["labels"].index(learnt[0])
        assert row["labels"][start:] == row["input_ids"][start:] == learnt
        assert run.decode(row["input_ids"][:start]) == text["prompt"]
        assert run.decode(learnt) == text["completion"]
        assert learnt.count(run.trainer.processing_class.convert_tokens_to_ids(run.family.stop)) == 1


def test_what_is_learnt_to_end_a_turn_ends_a_completion(run):
    """By the tokenizer that is saved, which generation honours, whatever the model's own generation config says."""
    saved = load_run_tokenizer(run.recipe)
    is_adapter = run.recipe.model.use_peft
    config = GenerationConfig.from_pretrained(run.base if is_adapter else run.recipe.output_dir)
    assert saved.eos_token == run.family.stop
    if not is_adapter:  # it goes without the base then
        ids = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        assert saved.convert_tokens_to_ids(run.family.stop) in ids


def test_evaluation_asks_as_training_did(run, monkeypatch):
    """Also before there is a run, for the base model alone."""
    monkeypatch.chdir(ROOT)
    before = parse_recipe([str(run.recipe.path), f"--model_name_or_path={run.base}", "--output_dir=absent"])
    for tokenizer in (load_run_tokenizer(run.recipe), load_run_tokenizer(before)):
        asked = [
            tokenizer.apply_chat_template(
                row.prompt, add_generation_prompt=True, tokenize=False, **row.template_kwargs
            )
            for row in load_rows(run.recipe, tokenizer)
        ]
        assert asked == [text["prompt"] for text in run.texts]
        assert tokenizer.eos_token == run.family.stop


def test_views_end_where_their_content_does(run):
    args = run.recipe.training
    for row, text in zip(run.prepared, run.texts, strict=True):
        if args.jepa_objective == "step":
            ends = [run.decode(row["input_ids"][: end + 1]) for end in row["step_ends"]]
            lines = text["target"].split("\n")
            assert ends == [text["prompt"] + "\n".join(lines[: i + 1]) for i in range(len(lines))]
            continue
        if not needs_views(args.jepa_objective):
            if not needs_spans(args.jepa_objective):
                continue
            ids, (start, end) = row["input_ids"], row["source_span"]
            assert run.decode(ids[start:end]) == text["source"]
            continue
        if args.jepa_source_view == "prefix":
            whole = text["prompt"]
            expected = whole[: whole.index(text["source"]) + len(text["source"])]
            assert row["source_ids"] == row["input_ids"][: len(row["source_ids"])]
        else:
            expected = text["alone_source"]
        assert run.decode(row["source_ids"]) == expected
        assert run.decode(row["source_ids"][row["source_start"] :]) == text["source"]
        assert run.decode(row["target_ids"]) == text["alone_target"]


def test_the_layout_is_packed_under_a_mask_that_the_architecture_takes(run):
    if needs_views(run.recipe.training.jepa_objective):
        assert isinstance(run.trainer.layout, PackedLayout)


def test_the_first_losses_are_those_of_plain_forwards(run):
    """In float32, each row and view by itself: caps, windows, norms and masks are all as they were."""
    args, settings = run.recipe.training, run.recipe.model
    attention = settings.attn_implementation or "sdpa"
    model = AutoModelForCausalLM.from_pretrained(run.base, dtype=torch.float32, attn_implementation=attention).eval()
    embed, total, count, read = model.get_input_embeddings(), 0.0, 0, []
    vectors_KD = new_predictor(model, args.num_predictor_tokens, args.seed).vectors_KD
    with torch.no_grad():
        for row in run.prepared:
            labels = torch.tensor([row["labels"]])
            learnt = int((labels[:, 1:] != IGNORED_LABEL).sum())
            total += model(torch.tensor([row["input_ids"]]), labels=labels).loss.item() * learnt
            count += learnt
            if args.jepa_objective == "pair":
                source_LD, target_LD = (embed(torch.tensor(row[name])) for name in ("source_ids", "target_ids"))
                views = torch.cat([source_LD, vectors_KD])[None], target_LD[None]
                read.append([model.base_model(inputs_embeds=view).last_hidden_state[0, -1] for view in views])
    is_quantised = settings.load_in_4bit or settings.load_in_8bit
    first = run.trainer.state.log_history[0]
    assert first["lm_loss"] == pytest.approx(total / count, rel=0.1 if is_quantised else 0.02)  # the recipe's are bf16
    if read:
        cosine = [
            [torch.cosine_similarity(source_D, target_D, dim=0).item() for _, target_D in read] for source_D, _ in read
        ]
        assert max(cosine[i][i] for i in range(len(read))) < 0.7  # of a random model; near 1 all would be alike
        expected = _pair_loss(cosine, [row["target"] for row in run.texts], args.jepa_loss)
        assert first["jepa_loss"] == pytest.approx(
            expected, abs=0.1 if is_quantised or args.jepa_loss != "cosine" else 0.02
        )


def _pair_loss(cosine: list[list[float]], targets: list[str], name: str) -> float:
    """The mean of 1 - cosine, or of InfoNCE at the temperature 0.07 with the other targets as negatives."""
    if name == "cosine":
        return sum(1 - cosine[i][i] for i in range(len(targets))) / len(targets)
    losses = []
    for i, row in enumerate(cosine):
        scores = [math.exp(row[j] / 0.07) for j in range(len(row)) if j == i or targets[j] != targets[i]]
        losses.append(math.log(sum(scores)) - row[i] / 0.07)
    return sum(losses) / len(losses)


def test_what_trains_has_changed_and_nothing_else_is_saved(run):
    """No predictor vector, no resized vocabulary; an adapter alone, where there is one."""
    output_dir, args = run.recipe.output_dir, run.recipe.training
    assert run.trainer.state.global_step == 2
    assert (run.trainer.predictor is not None) == has_parameters(args)
    before = load_file(Path(run.base) / "model.safetensors")
    if not run.recipe.model.use_peft:
        after = load_file(output_dir / "model.safetensors")
        assert {name: tensor.shape for name, tensor in after.items()} == {
            name: tensor.shape for name, tensor in before.items()
        }
        assert [name for name in after if torch.equal(after[name], before[name])] == []
        return
    model = run.trainer.model
    assert isinstance(model, PeftModel)
    assert not list(output_dir.glob("model*.safetensors"))
    after = load_file(output_dir / "adapter_model.safetensors")
    assert {re.sub(r".*\.(\w+)\.weight", r"\1", name) for name in after} == {"lora_A", "lora_B"}
    assert [name for name, tensor in after.items() if not tensor.any()] == []  # B is zero at first
    weights = {name.replace(".base_layer", ""): weight for name, weight in model.get_base_model().named_parameters()}
    assert weights.keys() >= before.keys() - {"lm_head.weight"}
    for name in weights.keys() & before.keys():
        assert not weights[name].requires_grad
        if weights[name].is_floating_point():  # quantised ones are in tests/training/test_quantised.py
            assert torch.equal(weights[name], before[name].to(weights[name].dtype)), name


@pytest.mark.parametrize("path", PLANNING, ids=lambda path: path.stem)
def test_a_recipe_from_scratch_trains_on_what_its_script_generates(path, tmp_path, monkeypatch):
    """By the words of its data alone: source, target and `<eos>`, of which target and `<eos>` are learnt."""
    (tmp_path / "outputs" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    data, _ = prepare(path.stem, tmp_path)
    load_script(path.parent / "word_model.py").main(
        ["--data_dir", str(data), "--output_dir", f"outputs/models/{path.stem}"]
    )
    overrides = [f"--dataset_name={data}", "--max_steps=2", "--logging_steps=1", "--warmup_steps=0"]
    recipe = parse_recipe([str(path), *overrides, "--per_device_train_batch_size=32", "--disable_tqdm=true"])
    trainer = train(recipe)
    assert trainer is not None
    rows, tokenizer = read(data, "train"), trainer.processing_class
    for prepared in trainer.train_dataset:
        row = rows[prepared["row_index"]]
        learnt = [label for label in prepared["labels"] if label != IGNORED_LABEL]
        assert tokenizer.decode(prepared["input_ids"]) == f"{row['source']} {row['target']} <eos>"
        assert tokenizer.decode(learnt) == f"{row['target']} <eos>"
        assert len(learnt) <= len(prepared["input_ids"]) <= recipe.training.max_length
    config = trainer.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (4, 128, len(tokenizer))
    first, last = trainer.state.log_history[:2]
    assert first["lm_loss"] == pytest.approx(math.log(len(tokenizer)), rel=0.1), "every word is as likely at first"
    assert last["lm_loss"] < first["lm_loss"]
    held_out = load_rows(recipe, tokenizer, max_rows=2)
    (result,) = evaluate(recipe, ["tuned"], load_run_tokenizer(recipe), held_out, 8, 2)
    assert {*score_names(recipe.training.task)} == {*result.scores}


@every_recipe
def test_a_recipe_can_be_launched_as_a_program(path):
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env -S python -m llm_jepa.train\n")


@every_recipe
def test_a_recipe_is_in_the_table_with_its_figures(path):
    """Weight, k and learning rate in recipes/README.md are the recipe's."""
    recipe = parse_recipe([str(path)])
    table = (ROOT / "recipes" / "README.md").read_text()
    [line] = [line for line in table.splitlines() if line.startswith(f"| `{path.parent.name}/{path.name}` |")]
    weight, k, rate = line.split("|")[2].split(",")
    args = recipe.training
    assert float(weight) == args.jepa_weight
    assert k.strip() == (str(args.num_predictor_tokens) if needs_views(args.jepa_objective) else "-")
    assert float(rate) == args.learning_rate
    assert recipe.output_dir == Path("outputs") / path.parent.name / path.stem
    data = path.stem if path in PLANNING else path.parent.name
    assert recipe.settings["dataset_name"] == f"data/{data}"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_read_with_every_arm(path, monkeypatch):
    """From the repository's root, as its paths are written. It has the seeds of a verdict, or says "no verdict"."""
    monkeypatch.chdir(path.parents[2])
    experiment = read_experiment(path)
    assert experiment.baseline in experiment.arms
    assert (len(experiment.seeds) < MIN_SEEDS) == ("no verdict" in path.read_text())
