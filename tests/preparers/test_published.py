"""data/*.py: every set, from inputs in their published form, to splits that the trainer and the scorers take."""

import functools
import itertools
import json
import re
import subprocess
import sys
from collections import deque
from pathlib import Path

import datasets
import pytest
import yaml
from trl import ScriptArguments

from llm_jepa.data.loading import load_split
from llm_jepa.evaluation.run import load_rows
from llm_jepa.inspection.recipe_rows import inspect_recipe
from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from llm_jepa.recipe import build_recipe
from llm_jepa.scoring.sql_execution import same_result
from llm_jepa.scoring.tasks import score_row
from tests.preparers.scripts import load_script, traced_peak_bytes
from tests.preparers.upstream_files import (
    SAMPLES,
    SENTENCES,
    WRITERS,
    sample,
    sample_lines,
    write_jsonl,
    write_parquet,
)
from tests.tiny import save_tiny_model, tiny_tokenizer

DATA = Path(__file__).parents[2] / "data"
SCRIPTS = {name: load_script(DATA / f"{name}.py") for name in WRITERS}
TASK_SETTINGS = {
    "nl_rx_synth": {"task": "regex"},
    "nl_rx_turk": {"task": "regex"},
    "gsm8k": {"task": "math"},
    "spider": {"task": "sql", "database_path": "{database}"},
    "nq_open": {"task": "qa"},
    "hellaswag": {"task": "choice", "choices_column": "choices"},
    "rotten_tomatoes": {"task": "choice", "choices_column": "choices"},
    "yelp": {"task": "choice", "choices_column": "choices"},
}
SPLITS = ("train", "validation", "test")


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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Name of a set -> where it was prepared, once, and what was said."""
    return functools.cache(lambda name: prepare(name, tmp_path_factory.mktemp(name)))


def prepare(name: str, directory: Path, *options: str) -> tuple[Path, str]:
    """Write the inputs of a set and run its preparer on them: where it wrote, and what it said."""
    inputs, output = directory / "in", directory / "out"
    inputs.mkdir(exist_ok=True)
    own = WRITERS[name](inputs)
    if not own:
        own = ["--input_dir", str(inputs), "--unchecked"]
    return output, "\n".join(run(SCRIPTS[name].DATA_SET, ["--output_dir", str(output), *own, *options]))


def read(output: Path, split: str) -> list[dict]:
    path = output / f"{split}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.parametrize("name", WRITERS)
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


@pytest.mark.parametrize("name", WRITERS)
def test_no_two_splits_share_what_the_card_names(name, prepared):
    output, _ = prepared(name)
    overlap = SCRIPTS[name].DATA_SET.overlap
    keys = [{key for row in read(output, split) for key in overlap(row)} for split in SPLITS]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    assert not keys[1] & keys[2]


@pytest.mark.parametrize("name", WRITERS)
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


def test_paraphrases_are_a_chain_and_their_groups_stay_together(prepared):
    output, _ = prepared("paraphrase")
    rows = [(split, row) for split in SPLITS for row in read(output, split)]
    tapaco = [(row["source"], row["target"]) for _, row in rows if row["group"] == "1"]
    assert tapaco == [
        ("I ate the cheese.", "I eat cheese."),
        ("I eat cheese.", "I'm eating a yogurt."),
        ("I'm eating a yogurt.", "I'm eating cheese."),
        ("I'm eating cheese.", "I'm having some cheese."),
    ]
    tatoeba = sample_lines("tatoeba")
    follow = {(one[1], other[1]) for one, other in itertools.pairwise(tatoeba) if one[0] == other[0]}
    assert {(row["source"], row["target"]) for _, row in rows if row["group"] != "1"} == follow
    groups = [{row["group"] for where, row in rows if where == split} for split in SPLITS]
    assert sum(map(len, groups)) == len(set.union(*groups))


GROUPS = 'id,text\n1,a one\n1,a two\n,alone\n,"unrelated"\n  ,either\n2,b one\n1,a three\n2,b two\n'


def prepare_groups(path: Path, *options: str) -> str:
    arguments = ["--file", str(path), "--group_column", "id", "--text_column", "text", "--test_share", "0"]
    arguments += ["--validation_share", "0", "--output_dir", str(path.parent / "out")]
    return "\n".join(run(SCRIPTS["paraphrase"].DATA_SET, [*arguments, *options]))


def test_the_card_claims_nothing_of_tapaco_for_groups_of_ones_own(tmp_path, prepared):
    (tmp_path / "groups.csv").write_text(GROUPS)
    prepare_groups(tmp_path / "groups.csv", "--skip_incomplete")
    cards = [(output / "README.md").read_text() for output in (prepared("paraphrase")[0], tmp_path / "out")]
    published, own = (yaml.safe_load(card.split("---\n")[1]) for card in cards)
    assert (published["license"], published["language"]) == ("cc-by-2.0", ["en"])
    assert own["license"] == "unknown"
    assert "language" not in own
    assert ["TaPaCo" in card for card in cards] == [True, False]
    assert "Source: your own files, named below.\n\nLicence: the licence of your files; correct this line" in cards[1]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_texts_without_a_group_are_no_group(suffix, tmp_path, capsys):
    path = tmp_path / f"groups.{suffix}"
    if suffix == "csv":
        path.write_text(GROUPS)
    else:
        groups = [1, 1, None, float("nan"), [], "2", 1, 2]
        texts = [line.split(",")[1] for line in GROUPS.splitlines()[1:]]
        write_jsonl(path, [{"id": group, "text": text} for group, text in zip(groups, texts, strict=True)])
    with pytest.raises(SystemExit):
        prepare_groups(path)
    assert f"`{path}`, line {4 if suffix == 'csv' else 3}: incomplete: the column 'id'" in capsys.readouterr().err
    said = prepare_groups(path, "--skip_incomplete")
    assert "3 incomplete" in said
    pairs = [(row["source"], row["target"]) for row in read(tmp_path / "out", "train")]
    assert pairs == [("a one", "a two"), ("a two", "a three"), ("b one", "b two")]


@pytest.mark.parametrize("skips", [[], ["--skip_incomplete"]])
def test_a_column_that_the_first_row_lacks_is_a_wrong_option_or_a_wrong_file(skips, tmp_path, capsys):
    own = tmp_path / "groups.jsonl"
    write_jsonl(own, [{"id": 1, "txt": "one"}, {"id": 1, "txt": "two"}])
    with pytest.raises(SystemExit):
        prepare_groups(own, *skips)
    missing = "there is no column 'text' among ['id', 'txt']."
    hint = "Name the columns of the file by `--group_column` and `--text_column`."
    assert capsys.readouterr().err == f"error: `{own}`, line 1: {missing} {hint}\n"
    published = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(published, [{"id": 1, "txt": "one"}])
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked", *skips]
    with pytest.raises(SystemExit):
        run(SCRIPTS["paraphrase"].DATA_SET, arguments)
    missing = "there is no column 'paraphrase_set_id' among ['id', 'txt']."
    form = "The file does not have its published form."
    assert capsys.readouterr().err == f"error: `{published}`, row 1: {missing} {form}\n"


def test_the_help_names_the_columns_that_are_taken_for_group_and_text(capsys):
    with pytest.raises(SystemExit):
        run(SCRIPTS["paraphrase"].DATA_SET, ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "the column that names the group (default paraphrase_set_id, TaPaCo's)" in said
    assert "the column that holds the text (default paraphrase, TaPaCo's)" in said


def test_options_for_published_files_are_refused_with_files_of_ones_own(tmp_path, capsys):
    (tmp_path / "groups.csv").write_text(GROUPS)
    with pytest.raises(SystemExit):
        prepare_groups(tmp_path / "groups.csv", "--input_dir", str(tmp_path / "nowhere"), "--unchecked")
    assert "`--input_dir` and `--unchecked` would have no effect on your own files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_of_a_group_nothing_stays_in_pythons_memory():
    """10,000 groups of two texts; in a dict their latest texts would take 2.5 MB."""

    class Groups:
        def records(self):
            for number in range(20_000):
                yield Record({"id": number % 10_000, "text": f"{number}".ljust(100, "x")}, "")

    assert traced_peak_bytes(lambda: deque(SCRIPTS["paraphrase"].pairs(Groups(), "id", "text"), maxlen=0)) < 2**20


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


def test_shares_that_leave_nothing_to_train_on_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        prepare("translation", tmp_path, "--test_share", "0.7", "--validation_share", "0.3")
    assert "each must be 0 or more, and their sum below 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"question": "Why?"}\n', "line 31: incomplete: there is no column 'answer' among ['question']."),
        (b'{"question": " ", "answer": "#### 1"}\n', "line 31: incomplete: the column 'question' is empty."),
        (b'{"question": "Caf\xe9?", "answer": "#### 1"}\n', "line 31: byte 17012 of the file is not UTF-8"),
        (b'{"question": "Wh', "line 31: not JSON: Unterminated string"),
    ],
)
def test_a_bad_line_ends_the_run_and_nothing_is_written(tmp_path, capsys, line, message):
    real = (SAMPLES / "gsm8k.jsonl").read_bytes()
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(real + (line if split == "train" else b""))
    before = sorted(tmp_path.iterdir())
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked"]
    with pytest.raises(SystemExit) as stopped:
        run(SCRIPTS["gsm8k"].DATA_SET, arguments)
    assert stopped.value.code == 2
    assert f"error: `{tmp_path / 'train.jsonl'}`, {message}" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_incomplete_rows_are_skipped_on_demand_and_named(tmp_path):
    rows = sample("gsm8k")
    write_jsonl(tmp_path / "train.jsonl", [*rows[:20], {"question": "Why?"}, *rows[20:24]])
    write_jsonl(tmp_path / "test.jsonl", rows[24:])
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked"]
    said = "\n".join(run(SCRIPTS["gsm8k"].DATA_SET, [*arguments, "--skip_incomplete"]))
    assert f"1 incomplete (`{tmp_path / 'train.jsonl'}`, line 21)" in said
    assert len(read(tmp_path / "out", "train") + read(tmp_path / "out", "validation")) == 24
    assert "--unchecked --skip_incomplete" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_finished_set_is_prepared_again_in_its_place(tmp_path):
    """Of all preparers this one writes the most."""
    output, said = prepare("spider", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    arguments = ["--output_dir", str(output), "--input_dir", str(tmp_path / "in"), "--unchecked"]
    assert "\n".join(run(SCRIPTS["spider"].DATA_SET, arguments)) == said
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


def test_a_directory_with_other_files_is_refused_before_the_inputs_are_looked_for(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit):
        run(SCRIPTS["gsm8k"].DATA_SET, ["--input_dir", "nowhere", "--output_dir", str(tmp_path)])
    assert f"output_dir {tmp_path} holds files that this run does not write: notes.txt." in capsys.readouterr().err


def test_the_numbers_of_what_came_and_what_was_left_out_add_up(tmp_path):
    """29 rows: 24 to learn from, one that came twice, one that is tested, and three incomplete."""
    rows = sample("gsm8k")
    write_jsonl(tmp_path / "train.jsonl", [*rows[:24], rows[0], rows[24], *[{"question": "Why?"}] * 3])
    write_jsonl(tmp_path / "test.jsonl", rows[24:])
    arguments = ["--input_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--unchecked"]
    train, *_ = [
        line for line in run(SCRIPTS["gsm8k"].DATA_SET, [*arguments, "--skip_incomplete"]) if "train:" in line
    ]
    validated = len(read(tmp_path / "out", "validation"))
    assert train.startswith(
        f"train: {24 - validated} of {29 - validated} rows, 1 left out that overlap with test, 1 rep"
    )
    assert "3 incomplete" in train
    assert "3 of these left out before the split; sha256" in train
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| train | {29 - validated} | {24 - validated} | 1 | 1 with test | 3 | 0 |" in card
    assert "3 rows were left out before the split; they are counted with `train`." in card


def test_other_files_than_the_published_ones_are_refused(tmp_path, capsys):
    arguments = ["--input_dir", str(SAMPLES), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        run(SCRIPTS["nl_rx_synth"].DATA_SET, arguments)
    error = capsys.readouterr().err
    assert "synth_train.jsonl` is not the published file: its checksum is sha256:" in error
    assert ", not sha256:ca959f10" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["gsm8k", "yelp", "spider"])
def test_without_a_network_the_files_their_places_and_the_option_are_named(name, tmp_path):
    environment = {"https_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    environment |= {"LLM_JEPA_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(DATA.parent)}
    done = subprocess.run(
        [sys.executable, str(DATA / f"{name}.py"), "--output_dir", str(tmp_path / "out")],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Without a network: put `" in done.stderr
    assert "into a directory, and give it as `--input_dir`" in done.stderr
    for file in SCRIPTS[name].DATA_SET.files.values():
        assert f"`{file.name}` from https://" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("cache", "hub")) == []


def test_every_task_of_lm_eval_reads_what_a_script_writes():
    tasks = DATA.parent / "eval" / "tasks"
    read_by_tasks = set(
        re.findall(r"data/(\w+)/test.jsonl", "".join(path.read_text() for path in tasks.glob("*.yaml")))
    )
    assert read_by_tasks == set(TASK_SETTINGS) - {"nl_rx_turk", "yelp"} | {"nl_rx"}


def test_the_table_of_the_readme_has_every_script():
    table = (DATA / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in DATA.glob("*.py")}
    assert set(re.findall(r"^\| `(\w+\.py)` \|", table, flags=re.MULTILINE)) == scripts
    assert {f"{name}.py" for name in WRITERS} | {"nl_rx.py"} == scripts
    for name, script in SCRIPTS.items():
        for file in script.DATA_SET.files.values():
            assert f"`{file.name}`" in table
            if file.num_rows is not None:
                assert f"{file.num_rows:,}" in table, name
