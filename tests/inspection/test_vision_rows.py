"""`llm-jepa inspect` of a VL-JEPA recipe: its rows with their pictures, scores of runs beside chance, a page."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
import yaml
from PIL import Image

from llm_jepa.cli import main as command
from llm_jepa.inspection.picture_page import picture_page
from llm_jepa.inspection.vision_rows import inspect_vision_recipe
from llm_jepa.vision.recipe import parse_any_recipe
from tests.vision.tiny_parts import SIDE, saved

COLOURS = ("red", "blue", "<b>sun</b>", "green")


@pytest.fixture
def recipe_path(tmp_path):
    """Four rows of two kinds with two or four candidates; the third answer holds a tag."""
    rows = []
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (SIDE * 40, SIDE * 20), "yellow" if "sun" in colour else colour).save(
            tmp_path / f"{number}.png"
        )
        candidates = sorted(COLOURS if number % 2 else {colour, "grey"})
        row = {"image": f"{number}.png", "question": f"Colour {number} & kind?", "answer": colour}
        rows.append({**row, "candidates": candidates, "kind": "odd" if number % 2 else "even"})
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "vision_encoder": saved("dinov2"), "language_model": saved("llama"), "text_encoder": saved("bert"),
        "predictor_layers": 2, "embedding_size": 12, "dataset_name": str(tmp_path / "test.jsonl"),
        "dataset_test_split": "train", "candidates_column": "candidates", "output_dir": str(tmp_path / "run"),
    }  # fmt: skip
    path = tmp_path / "colours.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def write_run(directory, ranks):
    directory.mkdir()
    lines = [
        {"row_index": i, "question": None, "gold": colour, "prediction": colour if rank == 1 else "grey",
         "cosine": 0.5, "rank": rank, "num_candidates": 4 if i % 2 else 2}
        for i, (colour, rank) in enumerate(zip(COLOURS, ranks, strict=True))
    ]  # fmt: skip
    (directory / "predictions-tuned.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


class Page(HTMLParser):
    """The texts, tags and pictures of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.texts, self.tags, self.pictures = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            content = base64.b64decode(dict(attributes)["src"].removeprefix("data:image/png;base64,"))
            self.pictures.append(Image.open(io.BytesIO(content)))

    def handle_data(self, data):
        self.texts.append(data)


def test_scores_are_those_of_the_predictions_by_kind_beside_chance(recipe_path, tmp_path):
    run = write_run(tmp_path / "run", [1, 1, 2, 3])
    inspection = inspect_vision_recipe(parse_any_recipe([str(recipe_path)]), 2, [run])
    rates = {kind: (rate.hits, rate.count) for kind, rate in inspection.accuracy["run"].items()}
    assert rates == {"all": (2, 4), "even": (1, 2), "odd": (1, 2)}
    assert inspection.chance == {"all": (1 / 2 + 1 / 4) / 2, "even": 1 / 2, "odd": 1 / 4}
    assert [row.index for row in inspection.rows] == [0, 1]
    assert [answer.rank for row in inspection.rows for answer in row.answers] == [1, 1]


def test_an_answer_may_hold_a_separator_of_lines(recipe_path, tmp_path):
    """`eval` writes U+2028 as it is."""
    path = write_run(tmp_path / "run", [1, 1, 2, 3]) / "predictions-tuned.jsonl"
    path.write_text(path.read_text().replace('"grey"', '"light\u2028grey"'), encoding="utf-8")
    inspection = inspect_vision_recipe(parse_any_recipe([str(recipe_path)]), 4, [path.parent])
    assert [row.answers[0].prediction for row in inspection.rows[2:]] == ["light\u2028grey"] * 2


def test_the_page_shows_each_row_small_and_escaped(recipe_path, tmp_path):
    run = write_run(tmp_path / "run", [1, 1, 2, 3])
    text = picture_page("a & b", inspect_vision_recipe(parse_any_recipe([str(recipe_path)]), 4, [run]))
    page = Page(text)
    assert page.tags.count("article") == 4
    assert "<b>sun</b>" in page.texts
    assert "Colour 2 & kind?" in page.texts
    assert "run: grey ✗ (right one at 3)" in page.texts
    assert [picture.size for picture in page.pictures] == [(256, 128)] * 4
    assert page.pictures[0].getpixel((0, 0)) == (255, 0, 0)
    cells = page.texts[page.texts.index("accuracy, %") :]
    assert cells[:9] == ["accuracy, %", "all", "even", "odd", "\n", "run", "50.0", "50.0", "50.0"]
    assert not re.search(r"(src|href)=\"(?!data:)", text), "it needs nothing beside it"


def test_the_command_shows_rows_writes_the_page_and_scores_runs(recipe_path, tmp_path, capsys):
    page = tmp_path / "pages" / "page.html"
    assert command(["inspect", str(recipe_path), "--rows", "1", "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert "pictures 640 x 320" in said
    assert "question Colour 0 & kind?" in said
    assert "rows of train: 4" in said
    assert Page(page.read_text()).tags.count("article") == 1
    runs = [str(write_run(tmp_path / name, ranks)) for name, ranks in (("seeing", [1] * 4), ("blind", [2] * 4))]
    assert command(["inspect", str(recipe_path), "--runs", *runs]) == 0
    said = capsys.readouterr().out
    assert re.search(r"seeing\W+100\.0\W+100\.0\W+100\.0", said)
    assert re.search(r"blind\W+0\.0\W+0\.0\W+0\.0", said)
    assert re.search(r"chance\W+37\.5\W+50\.0\W+25\.0", said)


def test_predictions_that_are_none_or_of_other_rows_are_refused(recipe_path, tmp_path):
    recipe = parse_any_recipe([str(recipe_path)])
    with pytest.raises(ValueError, match=r"There is no `.*predictions-tuned\.jsonl`\. Run `llm-jepa eval`"):
        inspect_vision_recipe(recipe, 1, [tmp_path / "none"])
    run = write_run(tmp_path / "run", [1] * 4)
    path = run / "predictions-tuned.jsonl"
    path.write_text(path.read_text().replace('"gold": "blue"', '"gold": "green"'))
    with pytest.raises(ValueError, match="is of other rows: row 1 has another answer"):
        inspect_vision_recipe(recipe, 1, [run])


def test_pages_are_files_of_recipes_with_pictures_alone(recipe_path, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command(["inspect", str(recipe_path), "--html", str(tmp_path)])
    assert "is a directory. Name a file" in capsys.readouterr().err
    (tmp_path / "rows.jsonl").write_text('{"source": "a", "target": "b"}\n')
    with pytest.raises(SystemExit):
        command(["inspect", str(tmp_path / "rows.jsonl"), "--html", "page.html"])
    assert "`--html` is for recipes of VL-JEPA alone" in capsys.readouterr().err
