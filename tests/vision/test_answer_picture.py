"""`llm-jepa answer` of a VL-JEPA run: from a picture to the nearest candidates, and what it refuses at once."""

import json

import pytest

from llm_jepa.cli import main
from llm_jepa.entry import MISTAKE_STATUS
from llm_jepa.vision.model import VLJEPAModel
from tests.vision.tiny_parts import COLOURS, tiny_model, tiny_token_vlm
from tests.vision.tiny_runs import tiny_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run, pictures, and candidates."""
    directory = tmp_path_factory.mktemp("place")
    tiny_run(directory)
    tiny_model(sees_images=False).save_pretrained(directory / "blind")
    tiny_model(num_frames=2).save_pretrained(directory / "video")
    tiny_token_vlm().save_pretrained(directory / "tokens")
    (directory / "names.txt").write_text("\n".join(COLOURS))
    (directory / "questions.txt").write_text("what colour is it?\nwhich one?\n")
    (directory / "no.png").write_text("no picture")
    return directory


def test_candidates_are_ranked_as_the_model_ranks_them(place, monkeypatch, capsys):
    """For each query, in words and as JSON; several files are the frames of one video; no query asks nothing."""
    monkeypatch.chdir(place)
    model = VLJEPAModel.from_pretrained("run")
    (hits,) = model.rank(["red.png"], ["what colour is it?"], [[*COLOURS]])
    ask = ["answer", "run", "--image", "red.png", "--candidates", "names.txt"]
    assert main([*ask, "--query", "what colour is it?", "--top", "2"]) == 0
    lines = [f"  {hit.score:.4f}  {hit.answer}" for hit in hits[:2]]
    assert capsys.readouterr().out.splitlines() == ["what colour is it?", *lines]
    assert main([*ask, "--queries", "questions.txt", "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["query"] for one in printed] == ["what colour is it?", "which one?"]
    assert [one["answer"] for one in printed[0]["answers"]] == [hit.answer for hit in hits[:5]]
    assert main(["answer", "video", "--image", "red.png", "sun.png", "--candidates", "names.txt"]) == 0
    (hits,) = VLJEPAModel.from_pretrained("video").rank([["red.png", "sun.png"]], None, [[*COLOURS]])
    assert capsys.readouterr().out.splitlines()[:2] == ["red.png, sun.png", f"  {hits[0].score:.4f}  {hits[0].answer}"]


def test_commands_for_text_say_that_they_are(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for argv in (["generate", "run", "--prompt", "q"], ["export", "run", "--to", "vllm", "--output_dir", "new"]):
        with pytest.raises(SystemExit):
            main(argv)
        assert f"`run` is a run of VL-JEPA; `llm-jepa {argv[0]}` is for runs on text" in capsys.readouterr().err


def test_mistakes_end_in_one_line(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    ask = ["--query", "q", "--candidates", "names.txt"]
    wrong = {
        "There is nothing to answer": ["run"],
        "`run` answers questions on pictures. Give `--image FILE`": ["run", *ask],
        "`--image absent.png`: there is no such file": ["run", *ask, "--image", "absent.png"],
        "picture `no.png` cannot be read": ["run", *ask, "--image", "no.png"],
        "There is no file `absent.txt`": ["run", "--image", "red.png", "--candidates", "absent.txt"],
        "`run` has no text decoder (text_decoder/)": ["run", "--image", "red.png", "--query", "q"],
        "`--index` has no effect on a run of VL-JEPA": ["run", *ask, "--image", "red.png", "--index", "index"],
        "`blind` was trained on questions alone. Leave out `--image`": ["blind", *ask, "--image", "red.png"],
        "`run` reads one picture (`num_frames: 1`), and `--image` names 2": [
            *("run", *ask, "--image", "red.png", "sun.png")
        ],
        "has 2400 tokens; the model reads 512 at most": [
            *("run", "--query", 1200 * "q ", "--candidates", "names.txt", "--image", "red.png")
        ],
        "`tokens` is a token VLM, a control of VL-JEPA, which `llm-jepa answer` does not take": ["tokens", *ask],
        "`absent` is no directory": ["absent", "--image", "red.png"],
    }
    for message, argv in wrong.items():
        with pytest.raises(SystemExit) as ended:
            main(["answer", *argv])
        assert ended.value.code == MISTAKE_STATUS, argv
        assert message in capsys.readouterr().err.replace("\n", " "), (message, argv)
