"""The Python of docs/vl.md runs as it stands, on a tiny run."""

import json
import re
from pathlib import Path

from tests.vision.tiny_parts import picture, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "vl.md"
RUN = "outputs/vl/siglip2-qwen3-2-questions"


def write_streams(directory: Path) -> None:
    """Two streams of 14 frames that change in the middle."""
    directory.mkdir(parents=True)
    for colour in ("red", "blue"):
        picture(colour).save(directory / f"{colour}.png")
    row = {"image": ["red.png"] * 7 + ["blue.png"] * 7, "question": "what colour is it?", "changes": [7]}
    (directory / "test.jsonl").write_text(f"{json.dumps(row)}\n" * 2)


def test_every_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for run in (RUN, "outputs/vl/openmoji"):
        tiny_model("siglip", "qwen3").save_pretrained(run)
    picture("red", (30, 20)).save("cat.jpg")
    write_streams(Path("data/openmoji_scenes/streams"))
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert f'from_pretrained("{RUN}")' in examples[0]
    namespace = {}
    for example in examples:
        exec(example, namespace)
    printed = capsys.readouterr().out
    assert re.match(r"a (cat|dog|horse) -?[01]\.", printed)
    assert printed.endswith("[0 7] [7]\n")
    assert namespace["prediction"].shape == (1, 12)
    assert namespace["answers"].shape == (2, 12)
