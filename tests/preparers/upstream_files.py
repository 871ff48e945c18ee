"""Small inputs for every preparer, in the form in which the sets are published: real rows, where samples/ has them."""

import csv
import json
import sqlite3
import subprocess
import zipfile
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

SAMPLES = Path(__file__).parent / "samples"
TRIVIA_CATEGORIES = (
    "animals", "brain-teasers", "celebrities", "entertainment", "for-kids", "general", "geography", "history",
    "hobbies", "humanities", "literature", "movies", "music", "newest", "people", "rated", "religion-faith",
    "science-technology", "sports", "television", "video-games", "world",
)  # fmt: skip
SENTENCES = [f"sentence {number}: {'good' if number % 2 else 'bad'} acting ." for number in range(48)]


def sample(name: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def sample_lines(name: str) -> list[list[str]]:
    """The fields of a file whose columns have no names."""
    with (SAMPLES / f"{name}.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict]) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)


def gsm8k(directory: Path) -> list[str]:
    """24 rows to train on, of which one comes twice, and one of the six test rows."""
    rows = sample("gsm8k")
    write_jsonl(directory / "train.jsonl", [*rows[:24], rows[0], rows[24]])
    write_jsonl(directory / "test.jsonl", rows[24:])
    return []


def svamp(directory: Path) -> list[str]:
    """28 rows to train on, of which one comes twice, and a tested story with other numbers; four test rows."""
    rows, tested = sample("svamp_train"), sample("svamp_dev")
    for name, part in (
        ("train", [*rows, rows[0], {**tested[0], "Numbers": "20 13", "Answer": "7.0"}]),
        ("dev", tested),
    ):
        with (directory / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(part)
    return []


def nq_open(directory: Path) -> list[str]:
    """34 rows to train on and six of the test rows, asked again."""
    rows = sample("nq_open")
    write_jsonl(directory / "NQ-open.train.jsonl", rows)
    write_jsonl(directory / "NQ-open.dev.jsonl", rows[34:])
    return []


def nl_rx_synth(directory: Path) -> list[str]:
    for split in ("train", "test"):
        write_jsonl(directory / f"synth_{split}.jsonl", sample(f"synth_{split}"))
    return []


def nl_rx_turk(directory: Path) -> list[str]:
    for split in ("train", "test"):
        write_jsonl(directory / f"turk_{split}.jsonl", sample(f"turk_{split}"))
    return []


def hellaswag(directory: Path) -> list[str]:
    """24 rows to train on, of which one is among the nine test rows."""
    rows = sample("hellaswag")
    write_jsonl(directory / "hellaswag_train.jsonl", rows[:24])
    write_jsonl(directory / "hellaswag_val.jsonl", rows[23:])
    return []


def rotten_tomatoes(directory: Path) -> list[str]:
    """Made up; two sentences of the training rows are in the test rows, one in the validation rows."""
    for split, numbers in (("train", range(33)), ("validation", range(32, 40)), ("test", range(30, 32))):
        rows = [{"text": SENTENCES[number], "label": number % 2} for number in numbers]
        write_parquet(directory / f"{split}.parquet", rows)
    return []


def yelp(directory: Path) -> list[str]:
    """Made up."""
    for split, numbers in (("train", range(40)), ("test", range(40, 48))):
        rows = [{"label": number % 5, "text": SENTENCES[number]} for number in numbers]
        write_parquet(directory / f"{split}-00000-of-00001.parquet", rows)
    return []


def banking77(directory: Path) -> list[str]:
    """Made up; of 24 training questions one has quotes and a line break, one is tested."""
    rows = [(f"Where is my card {number}?", "card_arrival") for number in range(12)]
    rows += [(f"Why was I charged {number}?", "Refund_not_showing_up") for number in range(11)]
    for split, part in (("train", [*rows, ('He said "no",\nwhy?', "card_arrival")]), ("test", rows[10:14])):
        with (directory / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *part])
    return []


def trivia(directory: Path) -> list[str]:
    """Made up: five questions in every category, and in the first those that are left out."""
    for number, category in enumerate(TRIVIA_CATEGORIES):
        blocks = [
            f"#Q What is {number} and\r\n{k}?\r\n^ {k}\nA {k}\nB {k + 1}\r\nC {k + 2}\nD none\n\n" for k in range(5)
        ]
        (directory / category).write_bytes("".join(blocks).encode())
    with (directory / TRIVIA_CATEGORIES[0]).open("ab") as file:
        file.write(b"#Q True?\n^ True\nA True\nB False\n\n#Q Twice?\n^ a\nA a\nB a\nC b\nD c\n\n")
        file.write(b"#Q Caf\xe9?\n^ a\nA a\nB b\nC c\nD d\n\n#Q Else?\n^ e\nA a\nB b\nC c\nD d\n\n")
        file.write(b"#Q \n^ a\nA a\nB b\nC c\nD d\n")
    return []


def paraphrase(directory: Path) -> list[str]:
    """TaPaCo's first group, and the French sentences that translate one English sentence, all groups taking turns."""
    groups = {"1": [text for _, _, text, *_ in sample_lines("tapaco")]}
    for number, (_, lines) in enumerate(groupby(sample_lines("tatoeba"), key=lambda line: line[0]), start=2):
        groups[str(number)] = [text for _, text, _ in lines]
    places = [(place, group) for group, texts in groups.items() for place in range(len(texts))]
    rows = [{"paraphrase_set_id": group, "paraphrase": groups[group][place]} for place, group in sorted(places)]
    write_parquet(directory / "train-00000-of-00001.parquet", rows)
    return []


def translation(directory: Path) -> list[str]:
    """Line 41 is empty in both files."""
    lines = sample_lines("tatoeba")
    for column, language in enumerate(("en", "fr")):
        texts = [line[column] for line in lines]
        texts.insert(40, "")
        (directory / f"text.{language}").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return ["--files", str(directory / "text.en"), str(directory / "text.fr")]


def git_commits(directory: Path) -> list[str]:
    make_repository(directory / "repository", [(f"Say {number}", f"{number}\n") for number in range(40)])
    return ["--repository", str(directory / "repository")]


def make_repository(path: Path, commits: list[tuple[str, str | bytes]]) -> None:
    """A git repository with a commit for each message and content of `file.txt`."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    for message, content in commits:
        (path / "file.txt").write_bytes(content.encode() if isinstance(content, str) else content)
        git(path, "add", "file.txt")
        git(path, "commit", "--quiet", "--allow-empty", "--allow-empty-message", "--message", message)


def git(path: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(path), *who, *arguments], check=True, capture_output=True)


def spider(directory: Path) -> list[str]:
    """Questions to nine databases, which are made of the real schemas: two of them to test on."""
    train, tables = sample("spider_train"), sample("spider_tables")
    with zipfile.ZipFile(directory / "spider_data.zip", "w") as archive:
        archive.writestr("spider_data/train_spider.json", json.dumps(train[:-3]))
        archive.writestr("spider_data/train_others.json", json.dumps(train[-3:]))
        archive.writestr("spider_data/dev.json", json.dumps(sample("spider_dev")))
        archive.writestr("spider_data/tables.json", json.dumps(tables))
        archive.writestr("__MACOSX/spider_data/dev.json", b"\0")
        for schema in tables:
            name = schema["db_id"]
            archive.writestr(f"spider_data/database/{name}/{name}.sqlite", sqlite_bytes(directory / "db", schema))
            archive.writestr(f"spider_data/test_database/{name}/{name}.sqlite", b"another")
    return []


def sqlite_bytes(path: Path, schema: dict) -> bytes:
    """A database of a schema of Spider's `tables.json`; each table has the rows (20, "a", ...) and (40, "b", ...)."""
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        for number, table in enumerate(schema["table_names_original"]):
            columns = [
                (name, kind)
                for (of_table, name), kind in zip(schema["column_names_original"], schema["column_types"], strict=True)
                if of_table == number
            ]
            database.execute(
                f'create table "{table}" ({", ".join(f"{json.dumps(name)} {kind}" for name, kind in columns)})'
            )
            for row in ((20, "a"), (40, "b")):
                values = [row[kind == "text"] for _, kind in columns]
                database.execute(f'insert into "{table}" values ({", ".join("?" * len(values))})', values)
    database.close()
    return path.read_bytes()


WRITERS: dict[str, Callable[[Path], list[str]]] = {
    writer.__name__: writer
    for writer in (
        gsm8k,
        svamp,
        nq_open,
        nl_rx_synth,
        nl_rx_turk,
        hellaswag,
        rotten_tomatoes,
        yelp,
        banking77,
        trivia,
        paraphrase,
        translation,
        git_commits,
        spider,
    )
}
"""Script -> what writes its inputs into a directory; it gives the options that name those of the user's own."""
