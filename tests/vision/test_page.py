"""The Python of docs/vl.md runs as it stands, on a tiny run."""

import re
from pathlib import Path

from tests.vision.tiny_parts import picture, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "vl.md"
RUN = "outputs/vl/siglip2-qwen3-2-questions"


def test_every_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_model("siglip", "qwen3").save_pretrained(RUN)
    picture("red", (30, 20)).save("cat.jpg")
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert f'from_pretrained("{RUN}")' in examples[0]
    namespace = {}
    for example in examples:
        exec(example, namespace)
    assert re.match(r"a (cat|dog|horse) -?[01]\.", capsys.readouterr().out)
    assert namespace["prediction"].shape == (1, 12)
    assert namespace["answers"].shape == (2, 12)
