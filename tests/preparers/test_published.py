"""data/*.py: every set, from inputs in their published form, to splits that the trainer and the scorers take."""

import re
from pathlib import Path

import datasets
import pytest
import yaml
from trl import ScriptArguments

from llm_jepa.data.loading import load_split
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.inspection.recipe_rows import inspect_recipe
from llm_jepa.preparers.program import run
from llm_jepa.recipe import build_recipe
from llm_jepa.scoring.sql_execution import same_result
from llm_jepa.scoring.tasks import score_row
from tests.preparers.generated_sets import TASKS
from tests.preparers.prepared_sets import DATA, SCRIPTS, SETS, SPLITS, prepare, read
from tests.preparers.upstream_files import (
    SENTENCES,
    sample,
    sample_lines,
    write_jsonl,
)
from tests.tiny import save_tiny_model, tiny_tokenizer

PICTURE_SCRIPTS = {"openmoji_scenes.py", "coco_captions.py", "vqa_v2.py", "msr_vtt.py"}
"""Tested in test_openmoji_scenes.py and test_picture_sets.py."""
TASK_SETTINGS = {
    "nl_rx_synth": {"task": "regex"},
    "nl_rx_turk": {"task": "regex"},
    "gsm8k": {"task": "math"},
    "svamp": {"task": "math"},
    "spider": {"task": "sql", "database_path": "{database}"},
    "nq_open": {"task": "qa"},
    "hellaswag": {"task": "choice", "choices_column": "choices"},
    "rotten_tomatoes": {"task": "choice", "choices_column": "choices"},
    "yelp": {"task": "choice", "choices_column": "choices"},
    "trivia": {"task": "choice", "choices_column": "choices"},
    **{name: {"task": task} for name, task in TASKS.items()},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    save_tiny_model(directory, max_position_embeddings=4096)
    (directory / "model.safetensors").unlink()
    return directory


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", SETS)
def test_a_prepared_set_is_trained_on_and_scored_as_it_is(name, tmp_path, model, prepared):
    """Loaded by its card, through the trainer's data path and that of `llm-jepa eval`."""
    output, _ = prepared(name)
    script = ScriptArguments(dataset_name=str(output))
    columns = list(SCRIPTS[name].DATA_SET.columns)
    for split in SPLITS:
        rows = read(output, split)
        assert all(list(row) == columns for row in rows)
        if rows:
            assert list(load_split(script, split)) == rows
    assert read(output, "train")
    assert read(output, "test")
    settings = {
        "model_name_or_path": str(model),
        "dataset_name": str(output),
        "output_dir": str(tmp_path / "run"),
        "source_column": "source",
        "target_column": "target",
        "max_length": 4096,
        "bf16": False,
        "use_cpu": True,
        **TASK_SETTINGS.get(name, {}),
    }
    recipe = build_recipe(tmp_path / "recipe.yaml", settings)
    inspection = inspect_recipe(recipe, 1)
    assert inspection.num_rows == len(read(output, "train"))
    assert inspection.dropped == []
    held_out = load_rows(recipe, tiny_tokenizer())
    assert [row.gold for row in held_out] == [row["target"] for row in read(output, "test")]


@pytest.mark.parametrize("name", SETS)
def test_no_two_splits_share_what_the_card_names(name, prepared):
    output, _ = prepared(name)
    overlap = SCRIPTS[name].DATA_SET.overlap
    keys = [{key for row in read(output, split) for key in overlap(row)} for split in SPLITS]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]


@pytest.mark.parametrize("name", SETS)
def test_the_card_names_source_licence_counts_and_checksums(name, prepared):
    output, _ = prepared(name)
    card = (output / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    data_set = SCRIPTS[name].DATA_SET
    assert header["license"] == data_set.licence
    files = [entry["path"] for entry in header["configs"][0]["data_files"]]
    assert files == [f"{split}.jsonl" for split in SPLITS if read(output, split)]
    assert data_set.source in card
    assert ("**not the published file**" in card) == any(file.checksum for file in data_set.files.values())
    for file in files:
        checksum = re.search(rf"\| {file} \| (\d+) \| (\w+) \|", card)
        assert int(checksum[1]) == len(read(output, file.removesuffix(".jsonl")))
    assert str(output.parent) not in card, "no path of the machine"


def test_gsm8k_leaves_out_the_row_that_is_tested_and_the_one_that_came_twice(prepared):
    output, said = prepared("gsm8k")
    rows = sample("gsm8k")
    learnt = read(output, "train") + read(output, "validation")
    assert {row["source"] for row in learnt} == {row["question"] for row in rows[:24]}
    assert len(learnt) == 24
    assert [row["target"] for row in read(output, "test")] == [row["answer"] for row in rows[24:]]
    assert said.count("1 left out that overlap with test") == 1
    assert said.count("1 repeated and left out") == 1


def test_svamp_solves_each_problem_by_its_expression(prepared):
    """A constant, inner operations, decimals; a wrong equation, a long fraction, a repeated row, a tested story."""
    output, said = prepared("svamp")
    targets = {row["source"]: row["target"] for split in ("train", "validation") for row in read(output, split)}
    assert len(targets) == 28 - 1 - 2 - 1  # a wrong equation, long numbers, one that the published file repeats
    conner = next(source for source in targets if source.startswith("Conner has 25000 dollars"))
    assert conner.endswith(
        "Every month he spends 1500 dollars . He does not add money to the account . How much money will "
        "Conner have in his account after 8 months ?"
    )
    assert targets[conner] == "25000 - (1500 * 8) = 13000\n#### 13000"
    assert score_row("math", "13000\n#### 13,000", targets[conner], stopped=True).values["math_strict"]
    assert [row["target"] for row in read(output, "test")][:2] == ["18 - 10 = 8\n#### 8", "12 - 11 = 1\n#### 1"]
    assert "1 whose equation does not give the answer" in said
    assert "2 with a negative answer, or a number of more than two decimals" in said
    assert "1 left out that overlap with test" in said
    assert "2 repeated and left out" in said


def test_nq_open_is_learnt_by_its_first_answer_and_tested_by_all(prepared):
    output, said = prepared("nq_open")
    assert read(output, "train")[0]["answers"] == ["6 geese a-laying", "maids a-milking"]
    assert read(output, "train")[0]["target"] == "6 geese a-laying"
    tested = next(row for row in read(output, "test") if len(row["answers"]) > 1)
    for answer in tested["answers"]:
        assert score_row("qa", answer, tested["target"], stopped=True).values["qa_match"]
    assert sum(map(int, re.findall(r"(\d+) left out that overlap with test", said))) == 6


def test_hellaswag_takes_the_ending_that_the_label_names(prepared):
    """Shown on a row whose context ends within a sentence, and whose endings begin with a comma."""
    output, said = prepared("hellaswag")
    rows = read(output, "train") + read(output, "validation")
    row = next(row for row in rows if row["source"].startswith("Then, the man writes over the snow"))
    assert row["source"].endswith("smiles. then")
    assert row["target"] == ", the man continues removing the snow on his car."
    assert row["choices"].index(row["target"]) == 3
    assert len(row["choices"]) == 4
    assert len(rows) == 23
    assert sum(map(int, re.findall(r"(\d+) left out that overlap with test", said))) == 1
    labels = [row["choices"].index(row["target"]) for row in read(output, "test")]
    assert labels == [row["label"] for row in sample("hellaswag")[23:]]


def test_rotten_tomatoes_has_a_validation_split_of_its_own(prepared):
    """Of 33 training rows two are tested and one is validated."""
    output, said = prepared("rotten_tomatoes")
    assert [row["source"] for row in read(output, "train")] == SENTENCES[:30]
    assert [row["source"] for row in read(output, "validation")] == SENTENCES[32:40]
    assert [row["target"] for row in read(output, "test")] == ["negative", "positive"]
    assert "train: 30 of 33 rows, 2 left out that overlap with test, 1 left out that overlap with validation" in said


def test_yelp_says_the_stars_in_words(prepared):
    output, _ = prepared("yelp")
    words = [row["target"] for row in read(output, "test")]
    assert words == ["very bad", "bad", "mediocre", "good", "very good", "very bad", "bad", "mediocre"]


def test_banking77_has_intents_in_words_and_a_file_of_them(prepared):
    """Of 24 training questions two are tested; one of them has a comma, quotes and a line break."""
    output, said = prepared("banking77")
    assert (output / "labels.txt").read_text(encoding="utf-8") == "Refund not showing up\ncard arrival\n"
    learnt = read(output, "train") + read(output, "validation")
    assert {"source": 'He said "no",\nwhy?', "target": "card arrival"} in learnt
    assert len(learnt) == 20
    assert said.count("overlap with test") == 1
    assert [row["target"] for row in read(output, "test")] == ["card arrival"] * 2 + ["Refund not showing up"] * 2


def test_trivia_asks_with_four_choices_and_counts_what_it_leaves_out(prepared):
    """Five questions in each of 22 categories; one with two choices, one with a choice twice, and three more."""
    output, said = prepared("trivia")
    rows = [row for split in SPLITS for row in read(output, split)]
    assert len(rows) == 5 * 22
    row = next(row for row in rows if row["question"] == "What is 3 and 4?")
    assert row["source"] == "What is 3 and 4?\n- 4\n- 5\n- 6\n- none"
    assert (row["target"], row["choices"]) == ("4", ["4", "5", "6", "none"])
    for reason in (
        "2 without 4 different choices",
        "1 not in UTF-8",
        "1 whose answer is none of",
        "1 without a question",
    ):
        assert f"{reason}" in said


def test_spiders_queries_run_on_the_databases_that_came_with_them(prepared):
    """Each real query, on a database of the real schema: 20 and 40 are above 10, and no country is France."""
    output, _ = prepared("spider")
    for row in [row for split in SPLITS for row in read(output, split)]:
        assert same_result(row["target"], row["target"], Path(row["database"])).outcome == "equal"
    answers = {row["source"]: (row["target"], Path(row["database"])) for row in read(output, "test")}
    heavy = answers["Find the number of pets whose weight is heavier than 10."]
    assert same_result("SELECT 2", *heavy).outcome == "equal"
    abroad = answers['List the name of singers whose citizenship is not "France".']
    assert same_result("SELECT 'a' UNION SELECT 'b'", *abroad).outcome == "equal"
    splits = [{row["db_id"] for row in read(output, split)} for split in SPLITS]
    assert sum(map(len, splits)) == 9
    assert splits[2] == {"pets_1", "singer"}


def test_spiders_schema_comes_before_the_question(tmp_path):
    output, _ = prepare("spider", tmp_path, "--schema")
    schema = (
        "Student(StuID number primary key, LName text, Fname text, Age number, Sex text, Major number, "
        "Advisor number, city_code text)\n"
        "Has_Pet(StuID number, PetID number)\n"
        "Pets(PetID number primary key, PetType text, pet_age number, weight number)\n"
        "Has_Pet.StuID = Student.StuID\n"
        "Has_Pet.PetID = Pets.PetID"
    )
    question = "Find the number of pets whose weight is heavier than 10."
    assert read(output, "test")[0]["source"] == f"{schema}\n\n{question}"
    assert "--schema" in (output / "README.md").read_text(encoding="utf-8")


def test_nl_rx_keeps_its_training_rows_and_drops_test_rows_that_share_with_them(tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()

    def line(source: str, target: str) -> dict:
        turns = [("system", "Convert."), ("user", f" {source} "), ("assistant", target)]
        return {"messages": [{"role": role, "content": text} for role, text in turns]}

    train = [line(f"s{i}", f"t{i // 2}") for i in range(64)]  # every target twice
    test = [line("s3", "new"), line("new", "t20"), line("newer", "u"), line("newer", "u")]
    write_jsonl(inputs / "synth_train.jsonl", train)
    write_jsonl(inputs / "synth_test.jsonl", test)
    arguments = ["--output_dir", str(tmp_path / "out"), "--input_dir", str(inputs), "--unchecked"]
    said = run(SCRIPTS["nl_rx_synth"].DATA_SET, arguments)
    counts = [len(read(tmp_path / "out", split)) for split in SPLITS]
    assert counts[0] == 60, "64 / 16 are cut off"
    assert counts[1] < 4, "but those of which the target is trained on are left out"
    assert read(tmp_path / "out", "test") == [{"source": "newer", "target": "u"}] * 2
    assert said[-1].startswith("test: 2 of 4 rows")
    assert "1 repeated and kept" in said[-1]


def test_a_translation_is_aligned_and_its_empty_lines_are_counted(prepared):
    output, said = prepared("translation")
    rows = [(row["source"], row["target"]) for split in SPLITS for row in read(output, split)]
    assert sorted(rows) == sorted((english, french) for english, french, _ in sample_lines("tatoeba"))
    assert "1 empty on both sides" in said


def test_a_translation_in_one_file_keeps_its_quotation_marks(tmp_path):
    (tmp_path / "pairs.tsv").write_text('"one\tun\n"two"\tdeux\n', encoding="utf-8")
    arguments = ["--tsv_file", str(tmp_path / "pairs.tsv"), "--test_share", "0", "--validation_share", "0"]
    run(SCRIPTS["translation"].DATA_SET, ["--output_dir", str(tmp_path / "out"), *arguments])
    expected = [{"source": '"one', "target": "un"}, {"source": '"two"', "target": "deux"}]
    assert read(tmp_path / "out", "train") == expected


def test_every_task_of_lm_eval_reads_what_a_script_writes():
    tasks = DATA.parent / "eval" / "tasks"
    read_by_tasks = set(
        re.findall(r"data/(\w+)/test.jsonl", "".join(path.read_text() for path in tasks.glob("*.yaml")))
    )
    assert read_by_tasks == set(TASK_SETTINGS) - {"nl_rx_turk", "yelp", *TASKS} | {"nl_rx"}


def test_the_table_of_the_readme_has_every_script():
    table = (DATA / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in DATA.glob("*.py")}
    assert set(re.findall(r"^\| `(\w+\.py)` \|", table, flags=re.MULTILINE)) == scripts
    assert {f"{name}.py" for name in SETS} | {"nl_rx.py"} | PICTURE_SCRIPTS == scripts
    for name, script in SCRIPTS.items():
        for file in script.DATA_SET.files.values():
            assert f"`{file.name}`" in table
            if file.num_rows is not None:
                assert f"{file.num_rows:,}" in table, name
