"""Where source and target lie in a conversation: for chat templates, plain strings, and texts without pairs."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from llm_jepa.data.spans import MARKER, SpanMaker, spans_of_text
from tests.templates import (
    LITERAL,
    SOURCE,
    TAKES_NO_SYSTEM_TURN,
    TARGET,
    TEXT_TEMPLATES,
    chat_row,
    greedy_tokenizer,
    plain_row,
    with_template,
)
from tests.tiny import CHATML, tiny_tokenizer

GREEDY = greedy_tokenizer()
contents = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


def spans(tokenizer, row: dict) -> dict[str, list[int]]:
    return SpanMaker(tokenizer, remedy="Mend it.")(row)


@pytest.mark.parametrize("name", TEXT_TEMPLATES)
def test_spans_hold_source_and_target_and_no_template_tokens(name):
    tokenizer = with_template(TEXT_TEMPLATES[name])
    row = chat_row(tokenizer)
    found = spans(tokenizer, row)
    for view, text in (("source", SOURCE), ("target", TARGET)):
        start, end = found[f"{view}_span"]
        held = tokenizer.decode(row["input_ids"][start:end]).strip()
        assert held == text or (held == f"]{text}" and name == "mistral")  # one token of this tokenizer
    assert 1 <= found["source_span"][0] < found["source_span"][1] <= found["target_span"][0]


@pytest.mark.parametrize("name", sorted(LITERAL.keys() - TAKES_NO_SYSTEM_TURN))
def test_spans_are_of_the_last_turns_and_not_of_earlier_mentions(name):
    tokenizer = with_template(TEXT_TEMPLATES[name])
    turns = [
        {"role": "system", "content": f"Translate. {SOURCE} is {TARGET}"},
        {"role": "user", "content": SOURCE},
        {"role": "assistant", "content": TARGET},
    ]
    row = chat_row(tokenizer, before=turns)
    found = spans(tokenizer, row)
    before_source = tokenizer.decode(row["input_ids"][: found["source_span"][0]])
    before_target = tokenizer.decode(row["input_ids"][: found["target_span"][0]])
    assert (before_source.count(SOURCE), before_source.count(TARGET)) == (2, 2)
    assert (before_target.count(SOURCE), before_target.count(TARGET)) == (3, 2)


def test_the_marker_of_contents_may_occur_in_a_conversation():
    """A system turn of two markers comes before the source; a single one would be found there."""
    tokenizer = with_template(CHATML)
    row = chat_row(tokenizer, before=[{"role": "system", "content": 2 * MARKER}])
    start, end = spans(tokenizer, row)["source_span"]
    assert tokenizer.decode(row["input_ids"][start:end]) == SOURCE


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), GREEDY], ids=["regex", "greedy"])
@settings(deadline=None)
@given(source=contents, target=contents, separator=st.sampled_from(["\n", ": "]))
def test_spans_of_plain_text_hold_any_source_and_target(tokenizer, source, target, separator):
    """Also where tokens run over the end of a view, and though the source's first token has none before it."""
    assume(source not in (source + separator)[1:])  # else it is the separator that the source is found in
    row = plain_row(tokenizer, source, separator, target)
    maker = SpanMaker(tokenizer, remedy="Mend it.")
    (first, source_end), (target_start, last) = maker.locate(row, "source"), maker.locate(row, "target")
    found = {"source_span": (first, source_end), "target_span": (target_start, last)}
    clipped_end = max(1, source_end)
    expected = [max(1, first), clipped_end], [max(clipped_end, target_start), max(clipped_end, last)]
    assert maker(row) == {"source_span": expected[0], "target_span": expected[1]}
    source_bytes = len(source[: len(source) - len(source.lstrip())].encode())
    target_bytes = len((source + separator + target[: len(target) - len(target.lstrip())]).encode())
    for view, begin, text in (("source", source_bytes, source), ("target", target_bytes, target)):
        start, end = found[f"{view}_span"]
        ends = [sum(map(len, tokenizer.convert_ids_to_tokens(row["input_ids"][:i]))) for i in (start, start + 1)]
        assert ends[0] <= begin < ends[1]
        last = [sum(map(len, tokenizer.convert_ids_to_tokens(row["input_ids"][:i]))) for i in (end - 1, end)]
        assert last[0] < begin + len(text.strip().encode()) <= last[1]


def test_what_cannot_be_located_is_refused_with_the_remedy():
    upper = with_template(CHATML.replace("message['content']", "message['content'] | upper"))
    with pytest.raises(ValueError, match=r"rewrites the source, .* Mend it\."):
        spans(upper, chat_row(upper))
    tokenizer = with_template(CHATML)
    row = chat_row(tokenizer) | {"input_ids": chat_row(with_template(LITERAL["zephyr"]))["input_ids"]}
    with pytest.raises(ValueError, match=r"does not tokenise to the conversation's tokens.* Mend it\."):
        spans(tokenizer, row)
    with pytest.raises(ValueError, match=r"ByT5Tokenizer is a slow one\. Mend it\."):
        SpanMaker(ByT5Tokenizer(), remedy="Mend it.")


@pytest.mark.parametrize(
    ("input_ids", "span"),
    [
        ([1, 7, 8, 9, 2], [1, 4]),
        ([5, 7, 8, 9, 2], [1, 4]),
        ([5, 7, 8], [1, 3]),
        ([1, 1, 7, 2, 8, 2, 2], [2, 5]),
        ([7], [1, 1]),
        ([1, 2], [1, 1]),
        ([7, 2], [1, 1]),
    ],
)
def test_a_text_is_one_span_without_the_special_tokens_at_its_ends(input_ids, span):
    """Of what is left the first token is no content either, if it is the row's first."""
    assert spans_of_text(input_ids, {1, 2}) == {"source_span": span, "target_span": [span[1]] * 2}
