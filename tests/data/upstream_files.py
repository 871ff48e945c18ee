"""Small inputs for every preparer, in the form in which the sets are published: real rows where samples/ has them."""

import json
import sqlite3
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

SAMPLES = Path(__file__).parent / "samples"
SENTENCES = [f"sentence {number}: {'good' if number % 2 else 'bad'} acting ." for number in range(48)]


def sample(name: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


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
    """Made up, but for the regexes."""
    for split in ("train", "test"):
        rows = sample(f"synth_{split}")
        for number, row in enumerate(rows):
            row["messages"][1]["content"] = f"Lines of the {number}th kind, for {split}"
        write_jsonl(directory / f"turk_{split}.jsonl", rows)
    return []


def hellaswag(directory: Path) -> list[str]:
    """Made up; one beginning of the training rows is in the test rows."""
    for name, numbers in (("train", range(40)), ("val", range(39, 45))):
        rows = [
            {
                "ind": number,
                "activity_label": "Baking",
                "ctx_a": f"A man opens oven {number}.",
                "ctx_b": "He",
                "ctx": f"A man opens oven {number}. He",
                "endings": [f"{verb} pan {number}." for verb in ("eats a", "takes out the", "paints a", "sings to a")],
                "label": 1,
                "split": name,
                "split_type": "indomain",
                "source_id": f"activitynet~{number}",
            }
            for number in numbers
        ]
        write_jsonl(directory / f"hellaswag_{name}.jsonl", rows)
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


def paraphrase(directory: Path) -> list[str]:
    """Made up: 30 groups of three, the rows of two groups taking turns."""
    rows = [
        {"paraphrase_set_id": str(pair * 2 + which), "paraphrase": f"Text {text} of group {pair * 2 + which}."}
        for pair in range(15)
        for text in range(3)
        for which in range(2)
    ]
    write_parquet(directory / "train-00000-of-00001.parquet", rows)
    return []


def translation(directory: Path) -> list[str]:
    """Made up; line 41 is empty in both files."""
    for language, word in (("en", "number"), ("fr", "nombre")):
        lines = [f"{word} {number}" if number != 40 else "" for number in range(50)]
        (directory / f"text.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
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
    """Made up: three questions to each of nine databases, seven of them to train on."""

    def rows(names: list[str]) -> list[dict]:
        return [
            {
                "db_id": name,
                "question": f"How many {what} has {name}?",
                "query": f"SELECT {what} FROM {name}",
                "sql": {},
            }
            for name in names
            for what in ("doors", "walls", "stairs")
        ]

    names = [f"house_{number}" for number in range(9)]
    with zipfile.ZipFile(directory / "spider_data.zip", "w") as archive:
        archive.writestr("spider_data/train_spider.json", json.dumps(rows(names[:6])))
        archive.writestr("spider_data/train_others.json", json.dumps(rows(names[6:7])))
        archive.writestr("spider_data/dev.json", json.dumps(rows(names[7:])))
        archive.writestr("spider_data/tables.json", json.dumps([spider_tables(name) for name in names]))
        archive.writestr("__MACOSX/spider_data/dev.json", b"\0")
        for name in names:
            archive.writestr(
                f"spider_data/database/{name}/{name}.sqlite", sqlite_bytes(directory / f"{name}.db", name)
            )
            archive.writestr(f"spider_data/test_database/{name}/{name}.sqlite", b"another")
    return []


def spider_tables(name: str) -> dict:
    return {
        "db_id": name,
        "table_names_original": [name, "owner"],
        "column_names_original": [[-1, "*"], [0, "id"], [0, "doors"], [0, "walls"], [0, "stairs"], [1, "house"]],
        "column_types": ["text", "number", "number", "number", "number", "number"],
        "primary_keys": [1],
        "foreign_keys": [[5, 1]],
    }


def sqlite_bytes(path: Path, table: str) -> bytes:
    with sqlite3.connect(path) as database:
        database.execute(f"create table {table} (id, doors, walls, stairs)")
        database.execute(f"insert into {table} values (1, 2, 4, 1)")
    database.close()
    return path.read_bytes()


WRITERS: dict[str, Callable[[Path], list[str]]] = {
    writer.__name__: writer
    for writer in (
        gsm8k,
        nq_open,
        nl_rx_synth,
        nl_rx_turk,
        hellaswag,
        rotten_tomatoes,
        yelp,
        paraphrase,
        translation,
        git_commits,
        spider,
    )
}
"""Script -> what writes its inputs into a directory; it gives the options that name those of the user's own."""
