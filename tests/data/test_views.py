"""Rows -> views, with the chat templates that there are: the content whole and once, cut at its last token."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import Replace
from tokenizers.processors import TemplateProcessing
from transformers import ByT5Tokenizer

from llm_jepa.data.views import (
    ViewMaker,
    is_prefix,
    longest_sequence_tokens,
    read_turn_headers,
    with_predictor_tokens,
)
from tests.templates import (
    LITERAL,
    PLAIN_WORDS,
    SHIPPED,
    SOURCE,
    TAKES_NO_SYSTEM_TURN,
    TAKES_NO_TEXT,
    TARGET,
    TEXT_TEMPLATES,
    chat_row,
    greedy_tokenizer,
    plain_row,
    with_template,
)
from tests.tiny import CHATML, tiny_tokenizer

BOS = "<|endoftext|>"
CHATML_HEADERS = ("<|im_start|>user\n", "<|im_start|>assistant\n")
GREEDY = greedy_tokenizer()

contents = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


def system(content: str) -> dict:
    return {"role": "system", "content": content}


def num_bytes(tokenizer, ids: list[int]) -> int:
    """Length in bytes of what ids of a byte-level tokenizer stand for (its tokens have a character for each byte)."""
    return sum(map(len, tokenizer.convert_ids_to_tokens(ids)))


def assert_is_prefix_up_to(row: dict, ids: list[int], text: str, tokenizer) -> None:
    """The ids are the first of the conversation's, and the last of them is the one that reaches the text's end."""
    assert row["input_ids"][: len(ids)] == ids
    end = len(text.encode())
    assert num_bytes(tokenizer, ids[:-1]) < end <= num_bytes(tokenizer, ids)


# --- a view encoded by itself


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_a_view_alone_is_a_header_and_the_content(name):
    """Once, cut at its end, and without the default system prompt, the date or a second BOS of the conversation."""
    tokenizer = with_template(TEXT_TEMPLATES[name])
    row = chat_row(tokenizer)
    views = ViewMaker(tokenizer, "alone")(row)
    conversation = tokenizer.decode(row["input_ids"])
    starts_with_bos = row["input_ids"][0] == tokenizer.bos_token_id
    for view, content in (("source", SOURCE), ("target", TARGET)):
        ids, start = views[f"{view}_ids"], views[f"{view}_start"]
        text = tokenizer.decode(ids)
        assert text.count(content) == 1
        assert text.endswith(content)
        header = text.removesuffix(content).removeprefix(BOS)
        assert conversation.partition(content)[0].endswith(header)
        assert not any(word in text.lower() for word in ("system", "helpful", "date", "20"))
        assert ids.count(tokenizer.bos_token_id) == starts_with_bos
        assert num_bytes(tokenizer, ids[:start]) == len((text.removesuffix(content)).encode())


@pytest.mark.parametrize("name", sorted(TEXT_TEMPLATES.keys() - TAKES_NO_SYSTEM_TURN))
def test_a_view_alone_does_not_depend_on_the_turns_around_it(name):
    tokenizer = with_template(TEXT_TEMPLATES[name])
    bare = ViewMaker(tokenizer, "alone")(chat_row(tokenizer))
    turns = [system("Write regexes."), {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    assert ViewMaker(tokenizer, "alone")(chat_row(tokenizer, before=turns)) == bare


@settings(deadline=None)
@given(source=contents, target=contents)
def test_a_view_alone_holds_any_content_without_the_space_around_it(source, target):
    tokenizer = with_template(CHATML)
    views = ViewMaker(tokenizer, "alone")(chat_row(tokenizer, source, target))
    for name, content, header in zip(("source", "target"), (source, target), CHATML_HEADERS, strict=True):
        whole = tokenizer(header + content.strip(), add_special_tokens=False)["input_ids"]
        assert views[f"{name}_ids"] == whole


def adds_bos_and_eos(template: str | None):
    """Like Llama 3's and others: the tokenizer adds a BOS to any text by itself; this one an EOS too."""
    tokenizer = with_template(template)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A <|im_end|>", special_tokens=[(BOS, 0), ("<|im_end|>", 2)]
    )
    return tokenizer


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_a_view_of_plain_text_has_the_bos_and_not_the_eos_that_the_tokenizer_adds(source_view):
    tokenizer = adds_bos_and_eos(None)
    views = ViewMaker(tokenizer, source_view)(plain_row(tokenizer, SOURCE, "\n", TARGET))
    assert tokenizer.decode(views["source_ids"]) == BOS + SOURCE
    assert tokenizer.decode(views["target_ids"]) == BOS + TARGET
    assert (views["source_start"], views["target_start"]) == (1, 1)


@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_a_view_of_a_chat_has_one_bos_though_both_template_and_tokenizer_add_one(source_view):
    tokenizer = adds_bos_and_eos(SHIPPED["gemma"])
    views = ViewMaker(tokenizer, source_view)(chat_row(tokenizer))
    assert tokenizer.decode(views["source_ids"]) == f"{BOS}<start_of_turn>user\n{SOURCE}"
    assert tokenizer.decode(views["target_ids"]) == f"{BOS}<start_of_turn>model\n{TARGET}"


@pytest.mark.parametrize("single", [BOS, "$A"])
def test_plain_text_without_tokens_of_its_own_is_refused(single):
    """A tokenizer that encodes a text with special tokens in another way, or one whose normaliser leaves nothing."""
    tokenizer = with_template(None)
    token_id = tokenizer.convert_tokens_to_ids(BOS)
    processor = TemplateProcessing(single=single, pair="$A $B", special_tokens=[(BOS, token_id)])
    tokenizer._tokenizer.post_processor = processor
    if single == "$A":
        tokenizer._tokenizer.normalizer = Replace(SOURCE, "")
    row = {"prompt": SOURCE, "completion": TARGET, "source": SOURCE, "target": TARGET}
    with pytest.raises(ValueError, match=f"the tokenizer gives '{SOURCE}' the tokens .* Use another tokenizer"):
        ViewMaker(tokenizer, "alone")(row)


def test_plain_text_ignores_a_chat_template():
    tokenizer = with_template(CHATML)
    views = ViewMaker(tokenizer, "alone")(plain_row(tokenizer, SOURCE, "\n", TARGET))
    assert (tokenizer.decode(views["source_ids"]), views["source_start"]) == (SOURCE, 0)


def test_a_slow_tokenizer_encodes_views_alone_and_cannot_locate_a_prefix():
    tokenizer = ByT5Tokenizer()  # adds an end token to every text
    views = ViewMaker(tokenizer, "alone")(plain_row(tokenizer, "dog", "\n", "cat"))
    assert tokenizer.decode(views["source_ids"]) == "dog"
    assert len(views["source_ids"]) == 3
    with pytest.raises(ValueError, match=r"ByT5Tokenizer is a slow one. Use `jepa_source_view: alone`"):
        ViewMaker(tokenizer, "prefix")


# --- the source as the conversation's prefix


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_the_prefix_view_ends_with_the_source_in_the_conversation(name):
    tokenizer = with_template(TEXT_TEMPLATES[name])
    row = chat_row(tokenizer)
    views = ViewMaker(tokenizer, "prefix")(row)
    prefix = tokenizer.decode(row["input_ids"]).partition(SOURCE)[0]
    assert_is_prefix_up_to(row, views["source_ids"], prefix + SOURCE, tokenizer)
    assert_is_prefix_up_to(row, views["source_ids"][: views["source_start"]], prefix, tokenizer)
    assert views["target_ids"] == ViewMaker(tokenizer, "alone")(row)["target_ids"]


@pytest.mark.parametrize("name", sorted(TEXT_TEMPLATES.keys() - TAKES_NO_SYSTEM_TURN))
def test_the_prefix_view_ends_with_the_source_and_not_with_its_mention_before_or_after(name):
    tokenizer = with_template(TEXT_TEMPLATES[name])
    turns = [
        system(f"Translate. Example: {SOURCE}"),
        {"role": "user", "content": f"not {SOURCE}"},
        {"role": "assistant", "content": SOURCE},
    ]
    row = chat_row(tokenizer, target=f"It was: {SOURCE}", before=turns)
    pieces = tokenizer.decode(row["input_ids"]).split(SOURCE)
    assert len(pieces) == 6
    ids = ViewMaker(tokenizer, "prefix")(row)["source_ids"]
    assert_is_prefix_up_to(row, ids, SOURCE.join(pieces[:4]) + SOURCE, tokenizer)


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), GREEDY], ids=["regex", "greedy"])
@pytest.mark.parametrize("name", ["plain-words", "chatml", "gemma", "llama3-date"])
@settings(deadline=None)
@given(source=contents, target=contents)
def test_the_prefix_view_ends_with_the_token_that_holds_the_last_character_of_any_source(
    tokenizer, name, source, target
):
    """Of templates that strip the content and of those that do not, and of tokens that run on into the next turn."""
    tokenizer = with_template(TEXT_TEMPLATES[name], tokenizer)
    row = chat_row(tokenizer, source, target)
    views = ViewMaker(tokenizer, "prefix")(row)
    text = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
    header = tokenizer.apply_chat_template([{"role": "user", "content": "."}], tokenize=False).rpartition(".")[0]
    leading_space = text[len(header) :].partition(source.strip())[0]
    assert not leading_space.strip()
    end = header + leading_space + source.strip()
    assert_is_prefix_up_to(row, views["source_ids"], end, tokenizer)
    assert num_bytes(tokenizer, views["source_ids"][: views["source_start"]]) <= len((header + leading_space).encode())


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), GREEDY], ids=["regex", "greedy"])
@settings(deadline=None)
@given(
    source=contents,
    target=contents,
    separator=st.sampled_from(["\n", "", ": ", " \n\n"]),
    before=st.sampled_from(["", "Be brief.\n"]),
    mentions_source=st.booleans(),
)
def test_the_prefix_view_of_plain_text_ends_with_the_source(
    tokenizer, source, target, separator, before, mentions_source
):
    before += f"{source}\n" if mentions_source else ""
    assume(source not in (source + separator)[1:])  # else it is the separator that the source is found in
    row = plain_row(tokenizer, source, separator, target, before)
    ids = ViewMaker(tokenizer, "prefix")(row)["source_ids"]
    assert_is_prefix_up_to(row, ids, before + source.rstrip(), tokenizer)


def test_a_token_may_run_over_the_end_of_the_source():
    tokenizer = with_template(PLAIN_WORDS, GREEDY)
    row = chat_row(tokenizer)
    ids = ViewMaker(tokenizer, "prefix")(row)["source_ids"]
    assert tokenizer.decode(ids) == "Q: lines with a number\nA: "
    assert tokenizer.decode(ids[-1:]) == "mber\nA: "


@pytest.mark.parametrize("content", ["FIRSTVIEWMARKER", "a FIRSTVIEWMARKERFIRSTVIEWMARKER b", "THIRDVIEWMARKER"])
@pytest.mark.parametrize("place", ["source", "before"])
def test_a_word_that_marks_turns_may_occur_in_a_conversation(content, place):
    tokenizer = with_template(CHATML)
    if place == "source":
        row, text = chat_row(tokenizer, source=content), f"<|im_start|>user\n{content}"
    else:
        row, text = chat_row(tokenizer, before=[system(content)]), f"<|im_start|>user\n{SOURCE}"
    ids = ViewMaker(tokenizer, "prefix")(row)["source_ids"]
    assert tokenizer.decode(ids).endswith(text)
    assert tokenizer.decode(ViewMaker(tokenizer, "alone")(row)["source_ids"]) == text


TOOL = {"type": "function", "function": {"name": "f", "description": SOURCE, "parameters": {}}}


@pytest.mark.parametrize("name", ["llama3_2", "qwen2_5"])
def test_tools_and_template_arguments_of_a_row_are_in_its_prefix(name):
    """Llama 3.2 writes the tools into the first user turn, before its content; here they mention the source."""
    tokenizer = with_template(TEXT_TEMPLATES[name])
    row = chat_row(tokenizer, tools=[TOOL], chat_template_kwargs={"date_string": "1 Jan 2020"})
    ids = ViewMaker(tokenizer, "prefix")(row)["source_ids"]
    pieces = tokenizer.decode(row["input_ids"]).split(SOURCE)
    assert_is_prefix_up_to(row, ids, SOURCE.join(pieces[:2]) + SOURCE, tokenizer)
    assert ViewMaker(tokenizer, "prefix")(row | {"tools": json.dumps([TOOL])})["source_ids"] == ids


# --- templates that cannot be served


@pytest.mark.parametrize("name", sorted(TAKES_NO_TEXT))
@pytest.mark.parametrize("source_view", ["alone", "prefix"])
def test_a_template_that_takes_no_text_cannot_render_a_view(name, source_view):
    tokenizer = with_template(SHIPPED[name])
    row = chat_row(with_template(CHATML))
    with pytest.raises(ValueError, match=r"the chat template (cannot render|rewrites the source)"):
        ViewMaker(tokenizer, source_view)(row)


def test_a_template_that_refuses_says_why():
    tokenizer = with_template("{{ raise_exception('Only tools may speak') }}")
    with pytest.raises(ValueError, match=r"cannot render the turns \['user', .*\]: Only tools may speak"):
        ViewMaker(tokenizer, "alone")(chat_row(with_template(CHATML)))


@pytest.mark.parametrize("template", ["{{ messages[0]['content'] }}", "no turns", "{{ messages[::-1] }}"])
def test_a_template_that_leaves_turns_out_or_turns_them_round_is_shown(template):
    with pytest.raises(ValueError, match="it renders the turns user, assistant, user, assistant as"):
        read_turn_headers(with_template(template))


def test_a_template_that_rewrites_the_source_has_no_prefix_view():
    tokenizer = with_template(CHATML.replace("message['content']", "message['content'] | upper"))
    with pytest.raises(ValueError, match="expected 'lines with a number', rendered 'LINES WITH A NUMBER"):
        ViewMaker(tokenizer, "prefix")(chat_row(tokenizer))


def test_a_conversation_that_was_tokenised_in_another_way_has_no_prefix_view():
    tokenizer = with_template(CHATML)
    row = chat_row(tokenizer) | {"input_ids": chat_row(with_template(LITERAL["zephyr"]))["input_ids"]}
    with pytest.raises(ValueError, match="does not tokenise to the conversation's tokens"):
        ViewMaker(tokenizer, "prefix")(row)


# --- predictor tokens and lengths


@settings(deadline=None)
@given(
    ids=st.lists(st.integers(0, 99), min_size=1, max_size=12),
    data=st.data(),
    count=st.integers(0, 16),
    position=st.sampled_from(["append", "prepend"]),
)
def test_predictor_tokens_are_numbered_and_leave_the_content_as_it_is(ids, data, count, position):
    start = data.draw(st.integers(0, len(ids) - 1))
    sequence = with_predictor_tokens(ids, start, count, position, placeholder_id=7)
    slots = list(sequence.slots)
    content = [token for token, slot in zip(sequence.token_ids, slots, strict=True) if slot == 0]
    assert content == ids
    assert [slot for slot in slots if slot] == list(range(1, count + 1))
    assert all(token == 7 for token, slot in zip(sequence.token_ids, slots, strict=True) if slot)
    first = len(ids) if position == "append" else start
    assert slots[first : first + count] == list(range(1, count + 1))
    assert len(sequence) == len(ids) + count


def test_a_row_is_as_long_as_its_longest_sequence_with_predictor_tokens():
    row = {"input_ids": [1] * 9, "source_ids": [1] * 5, "target_ids": [1] * 7}
    assert [longest_sequence_tokens(row, k) for k in (0, 2, 3, 16)] == [9, 9, 10, 23]
    assert longest_sequence_tokens({"input_ids": [1] * 9}, 16) == 9


def test_is_prefix():
    assert is_prefix([1, 2], [1, 2, 3])
    assert is_prefix([1, 2, 3], [1, 2, 3])
    assert not is_prefix([2], [1, 2, 3])
    assert not is_prefix([1, 2, 3, 4], [1, 2, 3])
