"""Rows of more than two views, and conversations of several turns, become one row for each pair."""

import copy
import itertools
import logging

import pytest
from datasets import Dataset, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_jepa import JEPAConfig, JEPATrainer
from llm_jepa.data.column_mapping import PAIR_COLUMNS, ColumnMapping
from llm_jepa.data.rows import to_rows
from llm_jepa.data.view_pairs import expand_rows
from llm_jepa.evaluation.held_out_rows import load_rows
from llm_jepa.inspection.recipe_rows import inspect_recipe
from llm_jepa.recipe import parse_recipe
from tests.tiny import save_tiny_model, tiny_llama, tiny_tokenizer

VIEWS = ("english", "french", "german")
ROWS = [dict(zip(VIEWS, (f"e{i}", f"f{i}", f"g{i}"), strict=True)) | {"id": i} for i in range(3)]
CHAT = [
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "letters"},
    {"role": "assistant", "content": "[a-z]"},
    {"role": "user", "content": "letters"},
    {"role": "assistant", "content": "(letters)"},
    {"role": "user", "content": "again?"},
]
SETTINGS = {"report_to": "none", "use_cpu": True, "bf16": False}


def pairs(rows: list[dict], streaming: bool = False, **options) -> list[tuple[str, str]]:
    """Source and target of every row that the options make."""
    mapping = ColumnMapping.from_args(JEPAConfig("out", **SETTINGS, **options))
    dataset = Dataset.from_list(rows)
    made = to_rows(expand_rows(dataset.to_iterable_dataset() if streaming else dataset, mapping), mapping, True)
    made = list(made)
    assert [row["row_index"] for row in made] == list(range(len(made)))
    return [(row["source"], row["target"]) for row in made]


# --- more than two views


@pytest.mark.parametrize("streaming", [False, True])
def test_a_chain_pairs_each_view_with_the_next(streaming):
    expected = [pair for i in range(3) for pair in ((f"e{i}", f"f{i}"), (f"f{i}", f"g{i}"))]
    assert pairs(ROWS, streaming, view_columns=[*VIEWS]) == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_all_pairs_take_each_view_with_every_later_one(streaming):
    expected = [pair for i in range(3) for pair in ((f"e{i}", f"f{i}"), (f"e{i}", f"g{i}"), (f"f{i}", f"g{i}"))]
    assert pairs(ROWS, streaming, view_columns=[*VIEWS], view_pairs="all") == expected


def test_views_may_be_nested_or_templates_and_two_are_as_good_as_named_columns():
    rows = [{"translation": {"en": f"e{i}", "fr": f"f{i}"}, "id": i} for i in range(3)]
    views = ["translation.en", "{{ translation.fr }}!"]
    named = pairs(rows, source_column=views[0], target_column=views[1])
    assert pairs(rows, view_columns=views) == named == [(f"e{i}", f"f{i}!") for i in range(3)]


@settings(max_examples=15)
@given(present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5), chain=st.booleans())
def test_skipping_leaves_out_the_pairs_of_a_missing_view_and_no_others(present, chain):
    """Against every pair of a row looked at by itself."""
    gaps = itertools.cycle([None, "", " \n"])
    rows = [
        {name: f"{name}{i}" if there else next(gaps) for name, there in zip(VIEWS, flags, strict=True)}
        for i, flags in enumerate(present)
    ]
    expected = [
        (f"{VIEWS[one]}{i}", f"{VIEWS[other]}{i}")
        for i, flags in enumerate(present)
        for one, other in itertools.combinations(range(3), 2)
        if flags[one] and flags[other] and (other == one + 1 or not chain)
    ]
    dataset = Dataset.from_list(rows).cast_column("english", Value("string"))
    for name in VIEWS:
        dataset = dataset.cast_column(name, Value("string"))
    mapping = ColumnMapping(view_columns=VIEWS, view_pairs="chain" if chain else "all", missing_views="skip")
    streamed = expand_rows(dataset.to_iterable_dataset(), mapping)
    assert [tuple(row[name] for name in PAIR_COLUMNS) for row in streamed] == expected


def test_left_out_pairs_are_counted_and_a_first_batch_without_any_does_no_harm(caplog):
    rows = [{"english": "e", "french": None}] * 1000 + [{"english": "e", "french": "f"}]
    mapping = ColumnMapping(view_columns=("english", "french"), view_pairs="chain", missing_views="skip")
    with caplog.at_level(logging.WARNING):
        assert len(expand_rows(Dataset.from_list(rows), mapping)) == 1
    assert "Left out 1000 of 1001 pairs of views: a view is missing." in caplog.text
    with pytest.raises(ValueError, match="All 1000 pairs of views lack at least one view"):
        expand_rows(Dataset.from_list(rows).select(range(1000)), mapping)


@pytest.mark.parametrize("gap", [None, " "])
def test_a_missing_view_is_an_error_that_names_the_row_as_it_was_given(gap):
    with pytest.raises(ValueError, match=r"Row 2: .*french.* Set `missing_views: skip` to leave out"):
        pairs([*ROWS[:2], ROWS[2] | {"french": gap}], view_columns=[*VIEWS])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view_columns": ["english"]}, "give two or more, each once"),
        ({"view_columns": ["english", "english"]}, "give two or more, each once"),
        ({"view_columns": ["english", ""]}, "`view_columns` is empty"),
        ({"view_columns": ["a", "b"], "source_column": "a", "target_column": "b"}, "Give one"),
        ({"view_pairs": "all"}, "`view_pairs: all` has no effect without `view_columns`"),
        ({"missing_views": "skip"}, "`missing_views: skip` has no effect without `view_columns`"),
        ({"view_columns": ["a", "b"], "view_pairs": "star"}, "allowed are 'chain', 'all'"),
        ({"view_columns": ["a", "b"], "target_turn": "all"}, "`target_turn: all` has no effect on named columns"),
        ({"source_column": "a", "target_column": "b", "source_turn": "first"}, "only on `messages`"),
    ],
)
def test_options_out_of_range_or_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        JEPAConfig("out", **SETTINGS, **options)


# --- conversations


@pytest.mark.parametrize("streaming", [False, True])
def test_every_turn_that_answers_may_be_a_target_in_a_row_of_its_own(streaming):
    """A greeting before any user turn answers none, and a turn without text, a call of a tool, is no view."""
    call = [{"role": "assistant", "content": None}, {"role": "tool", "content": "7"}]
    chats = [{"messages": CHAT}, {"messages": [*CHAT, *call, {"role": "assistant", "content": "7"}]}]
    both = [("letters", "[a-z]"), ("letters", "(letters)")]
    assert pairs(chats, streaming, target_turn="all") == [*both, *both, ("again?", "7")]


def test_share_gpts_turns_are_conversations():
    """As chat messages of the same roles, in whichever of the two columns."""
    roles = {"system": "system", "user": "human", "assistant": "gpt"}
    turns = [{"from": roles[message["role"]], "value": message["content"]} for message in CHAT]
    for options in ({"target_turn": "all"}, {"target_turn": "first"}, {"source_turn": "first"}):
        assert pairs([{"conversations": turns[:5]}], **options) == pairs([{"messages": CHAT[:5]}], **options)
    assert pairs([{"messages": turns[:5], "conversations": []}]) == pairs([{"messages": CHAT[:5]}])
    shared = prepared([{"conversations": turns[:5]}], target_turn="all")
    assert shared == prepared([{"messages": CHAT[:5]}], target_turn="all")


def test_the_first_target_and_the_first_source():
    chats = [{"messages": CHAT[1:5]}, {"messages": [{"role": "user", "content": "hm"}, *CHAT[1:5]]}]
    assert pairs(chats, target_turn="first") == [("letters", "[a-z]")] * 2
    assert pairs(chats, source_turn="first") == [("letters", "(letters)"), ("hm", "(letters)")]


def test_turns_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"Row 0: no assistant turn with a text follows a user turn .*'assistant'\]"):
        pairs([{"messages": CHAT[:1]}], target_turn="first")
    with pytest.raises(ValueError, match="Row 0: no assistant turn"):
        pairs([{"messages": CHAT[:2]}], target_turn="all")
    with pytest.raises(ValueError, match="must end with an assistant turn, which is learned; it ends with user"):
        pairs([{"messages": CHAT}])
    with pytest.raises(ValueError, match="`target_turn: first` has no effect on `prompt` and `completion`"):
        pairs([{"prompt": CHAT[1:2], "completion": CHAT[2:3]}], target_turn="first")
    with pytest.raises(ValueError, match="`source_turn: first` has no effect on plain strings"):
        pairs([{"prompt": "a", "completion": "b"}], source_turn="first")


MARKS = [
    ("weight", 0, 1),
    ("weight", 0.0, 1.0),
    ("train", False, True),
    ("loss", False, None),
    ("masked", True, False),
]


@pytest.mark.parametrize(("mark", "unlearned", "learned"), MARKS)
@pytest.mark.parametrize("form", ["messages", "conversations"])
def test_turns_that_a_mark_excludes_are_no_targets(mark, unlearned, learned, form):
    """They stay in the conversation, as what the next answer follows."""
    keys = ("role", "content") if form == "messages" else ("from", "value")
    turns = [("user", "a", None), ("assistant", "BAD", unlearned), ("user", "c", None), ("assistant", "good", learned)]
    chat = [{**dict(zip(keys, turn[:2], strict=True)), mark: turn[2]} for turn in turns]
    for options in ({"target_turn": "all"}, {"target_turn": "first"}, {}):
        assert pairs([{form: chat}], **options) == [("c", "good")]
    swapped = [chat[0], chat[3], chat[2], chat[1]]
    assert pairs([{form: swapped}], target_turn="all") == [("a", "good")]
    with pytest.raises(ValueError, match=f"a turn to learn has `{mark}: .* Set `target_turn: all`"):
        pairs([{form: swapped}])
    with pytest.raises(ValueError, match=f"no assistant turn is learned: all have a mark such as `{mark}"):
        pairs([{form: chat[:2]}], target_turn="all")


def test_a_mark_of_a_part_is_refused_and_marks_of_a_question_count_nothing():
    chat = [{"role": "user", "content": "a", "weight": 0}, {"role": "assistant", "content": "b", "weight": None}]
    assert pairs([{"messages": chat}], target_turn="all") == [("a", "b")]
    with pytest.raises(ValueError, match=r"a turn has `weight: 0\.5`; allowed are 0 and 1"):
        pairs([{"messages": [chat[0], {**chat[1], "weight": 0.5}]}])
    with pytest.raises(ValueError, match="a turn has `train_detail`, which marks parts of it"):
        pairs([{"messages": [chat[0], {**chat[1], "train_detail": [{"begin_offset": 0}]}]}])


def test_a_completion_of_several_answers_is_learned_whole_or_refused():
    completion = [{"role": "assistant", "content": "b", "weight": 0}, CHAT[2] | {"weight": 1}]
    with pytest.raises(ValueError, match="a turn to learn has `weight: 0`"):
        pairs([{"prompt": CHAT[1:2], "completion": completion}])


@pytest.mark.parametrize("options", [{}, {"target_turn": "all"}])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_system_column_is_the_system_turn_of_turns_that_have_none(options, streaming):
    own = {"role": "system", "content": "own"}
    chats = [{"messages": turns, "system": text} for turns, text in (
        (CHAT[1:3], "be brief"), ([own, *CHAT[1:3]], "be brief"), (CHAT[1:3], " "), (CHAT[1:3], None)
    )]  # fmt: skip
    dataset, mapping = Dataset.from_list(chats), ColumnMapping(**options)
    made = to_rows(expand_rows(dataset.to_iterable_dataset() if streaming else dataset, mapping), mapping, True)
    system = [[turn["content"] for turn in row["prompt"] if turn["role"] == "system"] for row in made]
    assert system == [["be brief"], ["own"], [], []]
    with pytest.raises(ValueError, match=r"Row 0: the row already has a system turn\. Leave `system_prompt` out"):
        pairs(chats, system_prompt="s", **options)
    with pytest.raises(ValueError, match="Row 0: the column `system` is int, not the text of a system turn"):
        pairs([{"messages": CHAT[1:3], "system": 7}], **options)


def prepared(rows: list[dict], **options) -> list[dict]:
    """As the trainer prepares them, each with the text of its labels as `learned`."""
    tokenizer = tiny_tokenizer()
    args = JEPAConfig("out", max_steps=1, jepa_layout="rows", **SETTINGS, **options)
    trainer = JEPATrainer(
        tiny_llama(), args, train_dataset=Dataset.from_list(rows), processing_class=copy.deepcopy(tokenizer)
    )
    made = list(trainer.train_dataset)
    for row in made:
        row["learned"] = tokenizer.decode([label for label in row["labels"] if label != -100])
    return made


def test_labels_lie_on_the_target_turn_alone_and_the_source_is_found_among_equal_turns():
    """Both turns read `letters`: the first one ends earlier in the conversation's prefix."""
    tokenizer, chats = tiny_tokenizer(), [{"messages": CHAT[1:5]}]
    rows = prepared(chats, target_turn="all", jepa_source_view="prefix")
    assert [row["learned"] for row in rows] == ["[a-z]<|im_end|>\n", "(letters)<|im_end|>\n"]
    assert [row["row_index"] for row in rows] == [0, 1]
    [last], [first] = (
        prepared(chats, jepa_source_view="prefix"),
        prepared(chats, jepa_source_view="prefix", source_turn="first"),
    )
    assert last["input_ids"] == first["input_ids"] == rows[1]["input_ids"]
    assert last["source_ids"] == rows[1]["source_ids"]
    assert first["source_ids"] == rows[0]["source_ids"]
    texts = [tokenizer.decode(row["source_ids"]).count("user\nletters") for row in (first, last)]
    assert texts == [1, 2]


def test_the_lm_only_arm_learns_the_same_rows():
    options = {"view_columns": [*VIEWS], "view_pairs": "all"}
    both = [prepared(ROWS, jepa_weight=weight, **options) for weight in (0, 1)]
    for name in ("input_ids", "labels", "row_index"):
        assert [row[name] for row in both[0]] == [row[name] for row in both[1]]
    assert len(both[0]) == 9


def test_an_inspected_recipe_counts_and_numbers_the_pairs(tmp_path):
    save_tiny_model(tmp_path / "model")
    Dataset.from_list(ROWS).to_json(tmp_path / "data.jsonl")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model_name_or_path: {tmp_path / 'model'}\ndataset_name: {tmp_path / 'data.jsonl'}\nbf16: false\n"
        f"output_dir: {tmp_path / 'out'}\nuse_cpu: true\n"
        'view_columns: ["english", "{{ french }} ({{ id }})", "german"]\n'
    )
    inspection = inspect_recipe(parse_recipe([str(recipe)]), 4)
    assert (inspection.num_rows, [row.index for row in inspection.rows]) == (6, [0, 1, 2, 3])
    assert "".join(inspection.rows[3].views[0].pieces).endswith("f1 (1)[PRED]")


def test_evaluation_asks_for_the_same_pairs_with_their_rows_other_columns(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for row in ROWS:
        row["choices"] = [f"f{row['id']}", f"g{row['id']}"]
    Dataset.from_list(ROWS).to_json(data / "test.jsonl")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model_name_or_path: m\ndataset_name: {data}\noutput_dir: {tmp_path / 'out'}\nbf16: false\n"
        "view_columns: [english, french, german]\nview_pairs: all\ntask: choice\nchoices_column: choices\n"
    )
    with pytest.raises(ValueError, match="`view_columns`"):
        parse_recipe([str(recipe), "--source_column", "english", "--target_column", "french"])
    rows = load_rows(parse_recipe([str(recipe)]), tiny_tokenizer())
    assert [row.source for row in rows] == ["e0", "e0", "f0", "e1", "e1", "f1", "e2", "e2", "f2"]
    assert rows[3].choices == ("f1", "g1")
    assert [row.row_index for row in rows] == list(range(9))
    assert [row.cluster for row in rows] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
