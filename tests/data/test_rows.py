"""Any data set and its column mapping -> rows: the conversation, and the text of the two views."""

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from llm_jepa.data.column_mapping import ColumnMapping
from llm_jepa.data.rows import ROW_COLUMNS, has_pairs, is_prepared, is_tokenised, to_rows

PAIR = ColumnMapping("question", "answer")
NO_NAMES = ColumnMapping()
CHAT = [
    {"role": "user", "content": "letters"},
    {"role": "assistant", "content": "[a-z]"},
    {"role": "user", "content": "digits"},
    {"role": "assistant", "content": "[0-9]"},
]


def one_row(example: dict, mapping: ColumnMapping = NO_NAMES, has_chat_template: bool = True) -> dict:
    """The row made of a data set that holds one example."""
    (row,) = to_rows(Dataset.from_list([example]), mapping, has_chat_template)
    assert row.pop("row_index") == 0
    return row


def error_of(rows: list[dict], mapping: ColumnMapping = NO_NAMES, has_chat_template: bool = True) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the callers compare the message)
        to_rows(Dataset.from_list(rows), mapping, has_chat_template)
    return str(error.value)


# --- the forms of data


def test_two_columns_are_a_user_turn_and_an_assistant_turn():
    assert one_row({"question": "digits", "answer": "[0-9]"}, PAIR) == {
        "prompt": [{"role": "user", "content": "digits"}],
        "completion": [{"role": "assistant", "content": "[0-9]"}],
        "source": "digits",
        "target": "[0-9]",
    }


def test_two_columns_without_a_chat_template_are_two_lines():
    assert one_row({"question": "digits", "answer": "[0-9]"}, PAIR, has_chat_template=False) == {
        "prompt": "digits\n",
        "completion": "[0-9]",
        "source": "digits",
        "target": "[0-9]",
    }


@pytest.mark.parametrize("has_chat_template", [True, False])
def test_a_plain_prompt_and_completion_stay_plain(has_chat_template):
    row = one_row({"prompt": "Q: digits\nA:", "completion": " [0-9]"}, has_chat_template=has_chat_template)
    assert row == {
        "prompt": "Q: digits\nA:",
        "completion": " [0-9]",
        "source": "Q: digits\nA:",
        "target": " [0-9]",
    }


def test_a_chat_prompt_has_its_last_user_turn_as_source():
    assert one_row({"prompt": CHAT[:3], "completion": CHAT[3:]}) == {
        "prompt": CHAT[:3],
        "completion": CHAT[3:],
        "source": "digits",
        "target": "[0-9]",
    }


def test_messages_are_their_last_assistant_turn_given_what_precedes():
    assert one_row({"messages": CHAT}) == one_row({"prompt": CHAT[:3], "completion": CHAT[3:]})


def test_a_tool_turn_between_source_and_target_changes_neither():
    tool_turns = [{"role": "assistant", "content": "let me look"}, {"role": "tool", "content": "7"}]
    row = one_row({"messages": [*CHAT[:3], *tool_turns, CHAT[3]]})
    assert (row["source"], row["target"], len(row["prompt"])) == ("digits", "[0-9]", 5)


def test_named_columns_come_before_messages_and_prompt():
    example = {"question": "digits", "answer": "[0-9]", "messages": CHAT, "prompt": "p", "completion": "c"}
    assert one_row(example, PAIR)["source"] == "digits"
    assert one_row(example)["source"] == "p"


# --- columns


@pytest.mark.parametrize("streaming", [False, True])
def test_every_other_column_goes_but_what_the_chat_template_takes(streaming):
    tools = '[{"type": "function"}]'
    dataset = Dataset.from_list(
        [{"question": "digits", "answer": "[0-9]", "label": 3, "labels": [1], "text": "t", "tools": tools}]
    )
    dataset = dataset.add_column("chat_template_kwargs", [{"enable_thinking": False}])
    rows = to_rows(dataset.to_iterable_dataset() if streaming else dataset, PAIR, True)
    row = next(iter(rows))
    assert set(row) == {*ROW_COLUMNS, "row_index", "tools", "chat_template_kwargs"}
    assert (row["tools"], row["chat_template_kwargs"]) == (tools, {"enable_thinking": False})


def test_template_arguments_that_are_no_mapping_are_refused():
    row = {"question": "digits", "answer": "[0-9]", "chat_template_kwargs": '{"enable_thinking": false}'}
    assert error_of([row], PAIR) == "Row 0: `chat_template_kwargs` is str; it must be a mapping of names to values."


@pytest.mark.parametrize("streaming", [False, True])
def test_a_rows_own_template_settings_go_before_those_of_the_run(streaming):
    mapping = ColumnMapping("question", "answer", chat_template_kwargs={"enable_thinking": False, "date": "today"})
    dataset = Dataset.from_list([{"question": "digits", "answer": "[0-9]"}])
    for own, expected in (({}, False), ({"enable_thinking": True}, True)):
        examples = dataset.add_column("chat_template_kwargs", [own]) if own else dataset
        (row,) = to_rows(examples.to_iterable_dataset() if streaming else examples, mapping, True)
        assert row["chat_template_kwargs"] == {"enable_thinking": expected, "date": "today"}


def test_a_setting_that_only_another_row_has_leaves_that_of_the_run():
    """A column of objects, as Parquet has it, holds a null for it."""
    mapping = ColumnMapping("question", "answer", chat_template_kwargs={"enable_thinking": False})
    own = [{"enable_thinking": True}, {"date": "today"}]
    rows = [{"question": "digits", "answer": "[0-9]", "chat_template_kwargs": settings} for settings in own]
    settings = to_rows(Dataset.from_list(rows), mapping, True)["chat_template_kwargs"]
    assert [setting["enable_thinking"] for setting in settings] == [True, False]


def test_template_settings_have_no_effect_on_plain_strings():
    mapping = ColumnMapping("question", "answer", chat_template_kwargs={"enable_thinking": False})
    message = (
        "Row 0: `chat_template_kwargs` has no effect on plain strings, since no chat template renders them. "
        "Leave it out."
    )
    assert error_of([{"question": "digits", "answer": "[0-9]"}], mapping, has_chat_template=False) == message


@pytest.mark.parametrize("streaming", [False, True])
def test_own_columns_named_like_ours_do_not_get_in_the_way(streaming):
    """Of other types too: `datasets` would try to store our `target` as their class label."""
    dataset = Dataset.from_dict(
        {"source": [1], "target": [0], "prompt": [[2.5]], "completion": [None], "q": ["digits"], "a": ["7"]},
        features=Features(
            source=Value("int64"),
            target=ClassLabel(names=["no", "yes"]),
            prompt=[Value("float64")],
            completion=Value("null"),
            q=Value("string"),
            a=Value("string"),
        ),
    )
    rows = to_rows(dataset.to_iterable_dataset() if streaming else dataset, ColumnMapping("q", "a"), True)
    assert next(iter(rows)) == one_row({"question": "digits", "answer": "7"}, PAIR) | {"row_index": 0}


@pytest.mark.parametrize(
    ("source", "target"), [("target", "source"), ("prompt", "completion"), ("completion", "source")]
)
def test_any_two_columns_may_be_named_whatever_they_are_called(source, target):
    row = one_row({source: "digits", target: "[0-9]"}, ColumnMapping(source, target))
    assert row == one_row({"question": "digits", "answer": "[0-9]"}, PAIR)


FORMS = {
    "columns": ([{"question": f"q{i}", "answer": f"a{i}", "extra": i} for i in range(3)], PAIR),
    "prompt": ([{"prompt": CHAT[i : i + 1], "completion": CHAT[i + 1 : i + 2]} for i in (0, 2)], NO_NAMES),
    "messages": ([{"messages": CHAT}, {"messages": CHAT[:2]}], ColumnMapping(system_prompt="Be brief.")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_schema_known", [True, False])
def test_a_stream_gives_the_same_rows(form, is_schema_known):
    """Also one that knows its columns only by looking at its first row, as that of a JSON Lines file."""
    examples, mapping = FORMS[form]
    dataset = Dataset.from_list(examples)
    stream = dataset.to_iterable_dataset()
    if not is_schema_known:
        stream = stream.map(lambda example: example)
        assert stream.column_names is None
    assert list(to_rows(stream, mapping, True)) == list(to_rows(dataset, mapping, True))
    assert [row["row_index"] for row in to_rows(stream, mapping, True)] == list(range(len(examples)))


# --- system prompts


def test_a_system_prompt_comes_before_the_turns_and_is_in_no_view():
    with_system = ColumnMapping("question", "answer", "Be brief.")
    row = one_row({"question": "digits", "answer": "[0-9]"}, with_system)
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "digits"}]
    assert (row["source"], row["target"]) == ("digits", "[0-9]")


@pytest.mark.parametrize(
    "example", [{"messages": CHAT}, {"prompt": CHAT[:3], "completion": CHAT[3:]}], ids=["messages", "prompt"]
)
def test_a_system_prompt_comes_before_a_chat(example):
    row = one_row(example, ColumnMapping(system_prompt="Be brief."))
    assert row["prompt"] == [{"role": "system", "content": "Be brief."}, *CHAT[:3]]


def test_a_system_prompt_is_the_first_line_of_plain_text():
    assert one_row({"question": "digits", "answer": "7"}, ColumnMapping("question", "answer", "Be brief."), False) == {
        "prompt": "Be brief.\ndigits\n",
        "completion": "7",
        "source": "digits",
        "target": "7",
    }
    plain = one_row({"prompt": "digits:", "completion": "7"}, ColumnMapping(system_prompt="Be brief."))
    assert (plain["prompt"], plain["source"]) == ("Be brief.\ndigits:", "digits:")


def test_a_system_turn_in_the_row_is_kept_and_a_second_one_refused():
    system_turn = {"role": "system", "content": "Be long."}
    assert one_row({"messages": [system_turn, *CHAT]})["prompt"] == [system_turn, *CHAT[:3]]
    rows = [{"messages": CHAT}, {"messages": [system_turn, *CHAT]}]
    assert error_of(rows, ColumnMapping(system_prompt="Be brief.")) == (
        "Row 1: the row already has a system turn. Leave `system_prompt` out."
    )


# --- bad input


def test_a_missing_column_is_named_with_those_there_are():
    rows = [{"question": "digits", "reply": "[0-9]"}]
    assert error_of(rows, PAIR) == "The data set has no column 'answer'. It has: ['question', 'reply']."
    assert "no column 'q', 'a'" in error_of(rows, ColumnMapping("q", "a"))


def test_columns_that_form_no_pair_are_listed():
    message = error_of([{"question": "digits", "completion": "[0-9]"}])
    assert "['question', 'completion']" in message
    assert "`source_column` and `target_column`" in message


GOOD = {"question": "digits", "answer": "[0-9]"}
BAD_PAIRS = [
    ({"question": "", "answer": "7"}, "Row 1: the source is empty."),
    ({"question": "digits", "answer": " \n\t"}, "Row 1: the target is empty."),
    ({"question": None, "answer": "7"}, "Row 1: column 'question' is null or empty."),
    ({"question": "digits", "answer": None}, "Row 1: column 'answer' is null or empty."),
]


@pytest.mark.parametrize(("bad", "message"), BAD_PAIRS)
@pytest.mark.parametrize("has_chat_template", [True, False])
def test_an_empty_view_names_its_row(bad, message, has_chat_template):
    assert error_of([GOOD, bad], PAIR, has_chat_template) == message


def test_a_column_of_another_type_is_refused():
    assert error_of([{"question": "digits", "answer": 7}], PAIR) == (
        "Row 0: column 'answer' holds int, not a string. Write `{{ answer }}` to train on it as '7'."
    )
    assert error_of([{"question": "digits", "an answer": 7}], ColumnMapping("question", "an answer")) == (
        "Row 0: column 'an answer' holds int, not a string."
    )


BAD_CHATS = [
    ({"messages": []}, "ends with nothing"),
    ({"messages": CHAT[:3]}, "it ends with user. Set `target_turn: first` or `all` to learn"),
    ({"messages": None}, "`messages` is NoneType, not a list of chat messages"),
    ({"messages": "hello"}, "`messages` is str, not a list of chat messages"),
    ({"messages": [{"speaker": "gpt", "text": "x"}]}, "a chat message has a `role` and a `content`"),
    ({"messages": CHAT[1:2]}, "there is no user turn among the roles []"),
    ({"messages": [{"role": "system", "content": "s"}, CHAT[1]]}, "no user turn among the roles ['system']"),
    ({"messages": [CHAT[0], {"role": "assistant", "content": " "}]}, "the target is empty"),
    ({"messages": [CHAT[0], {"role": "assistant", "content": None}]}, "the target is NoneType, not a string"),
    ({"prompt": CHAT[:1], "completion": "[a-z]"}, "`prompt` is list and `completion` str; both must be"),
    ({"prompt": None, "completion": None}, "`prompt` is NoneType"),
    ({"prompt": CHAT[:1], "completion": CHAT[:1]}, "no assistant turn among the roles ['user']"),
    ({"prompt": ["digits"], "completion": ["[0-9]"]}, "`prompt` holds 'digits'; a chat message has"),
    ({"prompt": "digits", "completion": ""}, "the target is empty"),
]


@pytest.mark.parametrize(("example", "message"), BAD_CHATS, ids=lambda value: str(value)[:50])
def test_a_chat_without_a_source_or_a_target_names_its_row(example, message):
    error = error_of([example])
    assert error.startswith("Row 0: ")
    assert message in error


def test_a_chat_needs_a_chat_template():
    message = error_of([{"messages": CHAT}], has_chat_template=False)
    assert message.startswith("Row 0: the row is a chat, but the tokenizer has no chat template.")


def test_a_stream_names_the_bad_row_when_it_comes_to_it():
    stream = Dataset.from_list([GOOD, {"question": " ", "answer": "7"}]).to_iterable_dataset()
    rows = iter(to_rows(stream, PAIR, True))
    assert next(rows)["source"] == "digits"
    with pytest.raises(ValueError, match=r"Row 1: the source is empty\."):
        next(rows)


# --- what kind of rows these are


@pytest.mark.parametrize(
    ("columns", "mapping", "tokenised", "pairs", "prepared"),
    [
        (["text"], NO_NAMES, False, False, False),
        (["prompt"], NO_NAMES, False, False, False),
        (["messages", "id"], NO_NAMES, False, True, False),
        (["question", "answer"], PAIR, False, True, False),
        (["input_ids", "labels", "source_ids", "target_ids"], NO_NAMES, True, False, False),
        (
            ["input_ids", "labels", "source_ids", "target_ids", "source_start", "target_start", "row_index"],
            NO_NAMES,
            True,
            False,
            True,
        ),
    ],
)
def test_the_kind_of_rows_is_told_by_their_columns(columns, mapping, tokenised, pairs, prepared):
    dataset = Dataset.from_dict({name: ["x"] for name in columns})
    assert is_tokenised(dataset) is tokenised
    assert has_pairs(dataset, mapping) is pairs
    assert is_prepared(dataset, "pair") is prepared
    assert not is_prepared(dataset, "tube")


def test_rows_with_spans_are_prepared_for_the_objectives_that_draw_paths():
    columns = ["input_ids", "labels", "source_span", "target_span", "row_index"]
    dataset = Dataset.from_dict({name: ["x"] for name in columns})
    assert is_prepared(dataset, "tube")
    assert is_prepared(dataset, "patch")
    assert not is_prepared(dataset, "pair")
