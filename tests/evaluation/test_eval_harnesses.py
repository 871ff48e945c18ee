"""lm-eval's own command and `evaluate` give the scores of `llm-jepa eval`, on local files, without a network."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import evaluate as hf_evaluate
import pytest
import yaml
from transformers import GenerationConfig

from llm_jepa.evaluation.generation import generate_completions
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.evaluation.run import evaluate
from llm_jepa.models.run_tokenizer import load_run_tokenizer
from llm_jepa.recipe import build_recipe
from llm_jepa.scoring.tasks import EXACT_SCORES, STOP_SCORES, TASK_SCORES, score_names
from tests.preparers.scripts import load_script
from tests.tiny import PAIRS, save_tiny_model, tiny_llama, tiny_tokenizer

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "eval" / "tasks"
METRIC = str(ROOT / "eval" / "metrics" / "llm_jepa_scores")
TASK_OF = {"nl_rx": "regex", "gsm8k": "math", "nq_open": "qa", "spider": "sql", "rotten_tomatoes": "choice"}
"""Name of the data -> the task of a recipe with them."""
LIMIT = 24
CHOICES = ["positive", "negative", "(.*) of neither kind"]


def read_task(path: Path) -> dict:
    """A task's YAML with its includes, functions by name."""
    content = yaml.safe_load(path.read_text().replace("!function scores.", ""))
    return (read_task(path.parent / content["include"]) if "include" in content else {}) | content


def description(name: str) -> str:
    return read_task(TASKS / f"llm_jepa_{name}.yaml")["description"]


def written(name: str) -> list[str]:
    """The model's text for each row."""
    chats = [
        [{"role": "system", "content": description(name)}, {"role": "user", "content": pair["source"]}]
        for pair in PAIRS
    ]
    return [one.text for one in generate_completions(tiny_llama(seed=3), tiny_tokenizer(), chats, LIMIT, 8)]


def rows_of(name: str) -> list[dict]:
    """Eight rows; the golds of some are the model's texts, so they are right."""
    texts = written(name)
    golds = {
        "nl_rx": lambda i: texts[i] if i % 2 else PAIRS[i]["target"],
        "gsm8k": lambda i: texts[i] + ("" if i % 4 else "\n#### 7"),
        "spider": lambda i: "select a from t",
        "nq_open": lambda i: f"{texts[i].strip().upper()}; other" if i % 3 else "other",
        "rotten_tomatoes": lambda i: CHOICES[i % 3],
    }[name]
    rows = [{"source": PAIRS[i]["source"], "target": golds(i)} for i in range(len(PAIRS))]
    extra = {"rotten_tomatoes": {"choices": CHOICES}, "spider": {"database": "t.sqlite"}}.get(name, {})
    return [row | extra for row in rows]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("harnesses")
    save_tiny_model(directory / "model", seed=3)
    penalty = GenerationConfig(repetition_penalty=1.3, eos_token_id=2, pad_token_id=2, bos_token_id=1)
    penalty.save_pretrained(directory / "model")  # as of Qwen2.5; greedy decoding knows of none
    with sqlite3.connect(directory / "t.sqlite") as database:
        database.execute("create table t (a)")
    for name in TASK_OF:
        (directory / "data" / name).mkdir(parents=True)
        lines = [json.dumps(row) for row in rows_of(name)]
        (directory / "data" / name / "test.jsonl").write_text("\n".join(lines) + "\n")
    return directory


def run(command: str, directory: Path, python: str) -> str:
    """What a command prints: a script, or one of those that are installed beside Python."""
    program, *arguments = shlex.split(command)
    scripts = [] if program == "python" else [str(Path(sys.executable).with_name(program))]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(directory / "cache"),
    }
    done = subprocess.run(
        [python, *scripts, *arguments],
        cwd=directory,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def lm_eval(directory, python):
    """Results of the stock command: task -> scores, and task -> its samples."""
    run(
        f"lm-eval run --model hf --model_args pretrained=model,dtype=float32 --include_path {TASKS} "
        f"--tasks {','.join(f'llm_jepa_{name}' for name in TASK_OF)} --gen_kwargs max_gen_toks={LIMIT} --device cpu "
        "--apply_chat_template --batch_size 8 --log_samples --output_path out",
        directory,
        python,
    )
    (results,) = directory.glob("out/**/results_*.json")
    scores = {}
    for task, values in json.loads(results.read_text())["results"].items():
        named = {key.removesuffix(",none"): value for key, value in values.items() if key.endswith(",none")}
        scores[task.removeprefix("llm_jepa_")] = {
            name: value for name, value in named.items() if not name.endswith("_stderr")
        }
    responses = {}
    for name in TASK_OF:
        (samples,) = directory.glob(f"out/**/samples_llm_jepa_{name}_*.jsonl")
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        responses[name] = [line["resps"] for line in sorted(lines, key=lambda line: line["doc_id"])]
    return scores, responses


def evaluated(directory: Path, name: str):
    settings = {
        "model_name_or_path": str(directory / "model"),
        "dataset_name": str(directory / "data" / name),
        "output_dir": str(directory / "run"),
        "source_column": "source",
        "target_column": "target",
        "system_prompt": description(name),
        "bf16": False,
        "task": TASK_OF[name],
        **({"choices_column": "choices"} if TASK_OF[name] == "choice" else {}),
        **({"database_path": str(directory / "{database}")} if TASK_OF[name] == "sql" else {}),
    }
    recipe = build_recipe(directory / "recipe.yaml", settings)
    tokenizer = load_run_tokenizer(recipe)
    (base,) = evaluate(recipe, ["base"], tokenizer, load_rows(recipe, tokenizer), LIMIT, batch_size=8)
    return base


@pytest.mark.parametrize("name", TASK_OF)
def test_lm_eval_gives_the_scores_of_llm_jepa_eval(name, directory, lm_eval):
    scores, responses = lm_eval
    base = evaluated(directory, name)
    own = {key: rate.fraction for key, rate in base.scores.items() if rate.count}
    if name == "rotten_tomatoes":
        assert scores[name] == pytest.approx({key: own[key] for key in ("acc", "acc_norm")})
        for row, response in zip(base.predictions, responses[name], strict=True):
            log_probs = [float(one[0][0]) for one in response]
            assert row.likelihoods.log_probs == pytest.approx(log_probs, abs=1e-3)
        return
    assert [response[0][0] for response in responses[name]] == [row.prediction for row in base.predictions]
    assert scores[name] == pytest.approx({key: own[key] for key in own if key not in STOP_SCORES})
    if name != "spider":  # a random model writes no SQL
        own_scores = TASK_SCORES[TASK_OF[name]] if name == "nq_open" else ("strict", "contains")
        assert any(0 < own[key] < 1 for key in own_scores), f"all rows alike show little: {own}"


def test_every_task_has_the_scores_of_its_kind_and_a_version():
    """lm-eval shows the scores in `metric_list`, and leaves out others silently."""
    paths = sorted(TASKS.glob("*.yaml"))
    assert len(paths) == 9
    for path in paths:
        merged = read_task(path)
        kind = merged.get("process_results", "choice")
        assert merged["metadata"]["version"] == (1.0 if kind == "choice" else 1.1)
        assert merged["task"] == path.stem
        wanted = [name for name in score_names(kind) if name not in STOP_SCORES]
        if kind == "choice":
            wanted = list(TASK_SCORES["choice"])
        assert [metric["metric"] for metric in merged["metric_list"]] == wanted


def test_the_metric_of_evaluate_is_score_row():
    metric = hf_evaluate.load(METRIC, "regex")
    result = metric.compute(predictions=["a|b", "a", "(a", "ab"], references=["b|a", "a", "a", "ab c"])
    assert result == {"strict": 0.25, "prefix": 0.25, "contains": 0.5, "equivalent": 0.5, "equivalent_nontrivial": 0.5}
    with_stops = metric.compute(predictions=["a", "a"], references=["a", "a"], stopped=[True, False])
    assert (with_stops["stopped"], with_stops["capped"]) == (0.5, 0.5)
    assert {*EXACT_SCORES} <= {*with_stops}


def test_harnesses_leave_out_a_gold_that_cannot_be_scored_by_and_tell(caplog):
    """One gold of three is no regex: of two rows one is right, and not of three."""
    golds, texts = ["a", "a(", "b"], ["a", "a(", "c"]
    result = hf_evaluate.load(METRIC, "regex").compute(predictions=texts, references=golds)
    assert (result["equivalent"], result["strict"]) == (0.5, pytest.approx(2 / 3))
    assert result["left_out"] == {"the gold regex cannot be read": 1}
    scores = load_script(TASKS / "scores.py").regex({"target": "a("}, ["a("])
    assert scores == {"strict": 1.0, "prefix": 1.0, "contains": 1.0}
    assert "left out of the scores of `regex`: The gold 'a(' cannot be read" in caplog.text


def test_the_metric_of_evaluate_asks_the_databases(tmp_path):
    with sqlite3.connect(tmp_path / "t.sqlite") as database:
        database.execute("create table t (a)")
        database.execute("insert into t values (1)")
    metric = hf_evaluate.load(METRIC, "sql")
    queries = {"predictions": ["select 1", "select a + 1 from t"], "references": ["select a from t"] * 2}
    assert metric.compute(**queries, databases=[str(tmp_path / "t.sqlite")] * 2)["sql_result"] == 0.5


def test_the_metric_of_evaluate_reads_the_sources():
    puzzles = {"predictions": ["a b c", "a c"], "references": ["a b c"] * 2, "sources": ["a b | b c | a c ="] * 2}
    assert hf_evaluate.load(METRIC, "path").compute(**puzzles)["solved"] == 0.5


def test_a_query_that_is_generated_is_run_on_the_rows_database(tmp_path):
    """As lm-eval calls it."""
    with sqlite3.connect(tmp_path / "t.sqlite") as database:
        database.execute("create table t (a)")
    row = {"target": "select a from t", "database": str(tmp_path / "t.sqlite")}
    scores = load_script(TASKS / "scores.py")
    assert scores.sql(row, ["select a from t where 1"])["sql_result"] == 1.0
    assert scores.sql(row, ["select b from t"])["sql_result"] == 0.0


def test_the_metric_of_evaluate_names_its_tasks():
    with pytest.raises(ValueError, match=r"allowed are text, regex, math, qa, sql, path, countdown, maze"):
        hf_evaluate.load(METRIC, "sentiment")


def test_the_commands_of_the_readme_run(directory, tmp_path, python):
    """With the tiny model for MODEL, and few rows."""
    block = re.search(r"```bash\n(.*?)```", (ROOT / "eval" / "README.md").read_text(), re.DOTALL)[1]
    commands = [line.partition("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    assert [command.split()[0] for command in commands] == ["llm-jepa", "lm-eval", "python"]
    for folder in ("eval", "recipes"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copytree(directory / "data", tmp_path / "data")
    shutil.copytree(directory / "model", tmp_path / "MODEL")
    base_alone = "--checkpoints base --model_name_or_path MODEL --max_new_tokens 8"
    table = run(f"{commands[0]} {base_alone}", tmp_path, python)
    assert "stop rate" in table
    assert re.search(r"┃ +base ┃", table)
    assert re.search(r"rows +│ +8 │", table)
    assert "equivalent_nontrivial" in run(f"{commands[1]} --gen_kwargs max_gen_toks=8", tmp_path, python)
    assert "'equivalent': 1.0" in run(commands[2], tmp_path, python)
