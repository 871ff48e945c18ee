"""data/paraphrase.py: groups become chains of pairs, also those of a file of one's own."""

import itertools
from collections import deque
from pathlib import Path

import pytest
import yaml

from llm_jepa.preparers.program import run
from llm_jepa.preparers.records import Record
from tests.preparers.prepared_sets import SCRIPTS, SPLITS, read
from tests.preparers.scripts import traced_peak_bytes
from tests.preparers.upstream_files import (
    sample_lines,
    write_jsonl,
    write_parquet,
)


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
