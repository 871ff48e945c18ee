"""An existing card: our parts are replaced, every other character is kept."""

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.hub.card_editing import (
    EVALUATION_NAME,
    SECTION_BEGIN,
    SECTION_END,
    model_index,
    read_metadata,
    with_metadata,
    with_section,
)

OURS = f"{SECTION_BEGIN}\n\nNew.\n\n{SECTION_END}\n"
OLD = f"{SECTION_BEGIN}\n\nOld.\n\n{SECTION_END}"
HEADER = """---
# chosen by hand
license: no   # Norway's
version: 1.10
tags:   # ours come last
- mine
# of 2026
released: 2026-11-23
model-index:
- name: other
  results: []
---
"""


def test_a_section_is_put_where_the_old_one_is_or_at_the_end():
    assert with_section(f"# Mine\n\n{OLD}\n\nMore.\n", OURS) == f"# Mine\n\n{OURS}\nMore.\n"
    assert with_section("# Mine\n", OURS) == f"# Mine\n\n{OURS}"
    assert with_section(f"{HEADER}", OURS) == f"{HEADER}\n{OURS}"


@pytest.mark.parametrize(
    "text",
    [
        f"{SECTION_BEGIN}\n\nBy hand.",
        f"By hand.\n{SECTION_END}",
        f"{OLD}\n{OLD}",
        f"{SECTION_END}\nx\n{SECTION_BEGIN}",
    ],
)
def test_marks_that_do_not_enclose_one_section_are_refused(text):
    """Between a mark whose fellow was deleted and the next one there may be text by hand."""
    with pytest.raises(ValueError, match="it must have one of each, in this order, or none"):
        with_section(text, OURS)


def test_entries_are_replaced_line_by_line_and_all_else_stays():
    card = with_metadata(f"\n{HEADER}\n# Mine\n", {"tags": ["mine", "ours"], "base_model": "a/b", "released": None})
    assert (
        card
        == "\n"
        + HEADER.replace("tags:   # ours come last\n- mine\n", "tags:\n- mine\n- ours\n")
        .replace("released: 2026-11-23\n", "")
        .replace("  results: []\n", "  results: []\nbase_model: a/b\n")
        + "\n# Mine\n"
    )
    assert with_metadata(card, {"base_model": "a/b", "tags": ["mine", "ours"]}) == card


def test_a_card_without_a_header_gets_one():
    card = with_metadata("\n# Mine\n", {"license": "mit", "model-index": None})
    assert card == "---\nlicense: mit\n---\n\n\n# Mine\n"
    assert ModelCard(card).data.license == "mit"


values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.text(), max_size=3))
mappings = st.dictionaries(st.sampled_from(["tags", "a", "b-c", "license", "7"]), values, max_size=4)
styles = st.fixed_dictionaries({"default_flow_style": st.sampled_from([True, False, None]), "indent": st.just(4)})


@given(mappings, mappings, styles)
def test_what_is_read_after_the_edit_is_what_was_asked_for(there, entries, style):
    text = yaml.safe_dump(there, **style) if there else ""
    wanted = {key: value for key, value in {**there, **entries}.items() if value is not None or key not in entries}
    assert read_metadata(with_metadata(f"---\n{text}---\nMine.\n", entries)) == wanted


@pytest.mark.parametrize("header", ["[a, b]", "license: [mit", "text"])
def test_a_header_that_is_no_mapping_is_refused(header):
    with pytest.raises(ValueError, match="at its top"):
        read_metadata(f"---\n{header}\n---\n")


def test_of_the_model_index_our_results_alone_are_replaced():
    """Theirs may lack what the client wants of a result (a data set), and be of several models."""
    theirs = {"task": {"type": "text-generation"}, "metrics": [{"type": "bleu", "value": 3}]}
    old, new = ({"task": {"name": EVALUATION_NAME}, "metrics": [{"value": value}]} for value in (1, 2))
    there = [{"name": "one", "results": [theirs]}, {"name": "mine", "results": [theirs, old]}]
    assert model_index(there, "mine", [new]) == [there[0], {"name": "mine", "results": [theirs, new]}]
    assert model_index(there, "other", [new])[1:] == [
        {"name": "mine", "results": [theirs]},
        {"name": "other", "results": [new]},
    ]
    assert model_index([{"name": "mine", "results": [old]}], "mine", []) is None
    assert model_index(None, "mine", []) is None
    with pytest.raises(ValueError, match="`model-index` cannot be read"):
        model_index([{"name": "mine", "results": theirs}], "mine", [new])
