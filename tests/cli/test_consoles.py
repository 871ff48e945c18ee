"""What a command prints of data is what the data say: no markup and no emoji are made of them."""

import io
from pathlib import Path

import pytest

import llm_jepa.cli
from llm_jepa.cli.consoles import new_console
from llm_jepa.cli.inspect_recipe import marked
from llm_jepa.cli.tables import table_of


def printed(*shown, **options) -> str:
    console = new_console(file=io.StringIO(), width=200)
    for one in shown:
        console.print(one, **options)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["Q:", " ([", "a-z", "])", ".*(", "[", "A-Z", "])"], "Q:« ([a-z]).*([A-Z])»\n"),
        (["Q:", "[", "/b", "]"], "Q:«[/b]»\n"),
        (["Q:", " 10", ":x:", "30"], "Q:« 10:x:30»\n"),
    ],
    ids=["a regex", "a closing tag", "an emoji's code"],
)
def test_labels_are_shown_as_they_are_whatever_their_tokens_spell(pieces, expected):
    """Tokens that are no markup by themselves can be together: `[`, `a-z` and `]`."""
    assert printed(marked(pieces, [False] + [True] * (len(pieces) - 1))) == expected


def test_runs_of_labels_are_marked_apart():
    assert marked(["a", "b", "c", "d"], [True, False, True, True]).plain == "«a»b«cd»"


def test_codes_of_emoji_stay_in_texts_and_tables():
    table = table_of([":x:"])
    table.add_row("10:x:30", ":100:")
    shown = printed(":x:", table)
    assert shown.count(":x:") == 3
    assert ":100:" in shown


def test_commands_print_on_these_consoles_alone():
    sources = Path(llm_jepa.cli.__file__).parent.glob("*.py")
    others = [path.name for path in sources if " Console(" in path.read_text(encoding="utf-8")]
    assert others == ["consoles.py"]
