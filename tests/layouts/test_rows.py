"""The layout of plain rows, and what all layouts have in common: how stored rows become one batch."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.data.views import IGNORED_LABEL, TokenSequence, with_predictor_tokens
from llm_jepa.layouts import Batch, Example, FlatLayout, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.masks import tree_mask

PAD = 9
LAYOUTS = [RowsLayout(PAD), PackedLayout(PAD), FlatLayout(PAD), PackedLayout(PAD, break_even_tokens=0)]
"""The last one, for which attention is all that costs, has two rows for an example wherever they are shorter."""


def plain(*token_ids: int) -> TokenSequence:
    return TokenSequence(token_ids, (0,) * len(token_ids))


@st.composite
def batches_of_examples(draw) -> list[Example]:
    """One to three examples with two views each; tokens 0 to 2, so that prefixes and even whole sequences collide."""
    tokens = st.lists(st.integers(0, 2), min_size=1, max_size=6)
    examples = []
    for _ in range(draw(st.integers(1, 3))):
        conversation = draw(tokens)
        labels = [token if draw(st.booleans()) else IGNORED_LABEL for token in conversation]
        views = [
            with_predictor_tokens(ids, 0, draw(st.integers(0, 2)), draw(st.sampled_from(["append", "prepend"])), PAD)
            for ids in (draw(tokens), draw(tokens))
        ]
        examples.append(Example(plain(*conversation), labels, tuple(views)))
    return examples


def test_each_sequence_is_a_row_of_its_own():
    """Conversation, source view, target view: in this order, padded to the longest, worked out by hand."""
    source = with_predictor_tokens([5, 6], 1, 1, "append", PAD)
    example = Example(plain(5, 6, 7, 8), [IGNORED_LABEL, IGNORED_LABEL, 7, 8], (source, plain(5, 8)))
    batch = RowsLayout(PAD).lay_out([example])
    assert batch.input_ids_RL.tolist() == [[5, 6, 7, 8], [5, 6, PAD, PAD], [5, 8, PAD, PAD]]
    assert batch.slots_RL.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert batch.position_ids_RL.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0], [0, 1, 0, 0]]
    assert batch.subtree_ends_RL.tolist() == [[4, 4, 4, 4], [3, 3, 3, 4], [2, 2, 3, 4]]
    assert batch.label_positions_M.tolist() == [1, 2]
    assert batch.label_ids_M.tolist() == [7, 8]
    assert batch.conversation_positions_C.tolist() == [0, 1, 2, 3]
    assert batch.view_readouts_VN.tolist() == [[4 + 2], [8 + 1]]
    assert batch.num_tokens == 4 + 3 + 2


def test_second_example_is_offset_by_the_rows_of_the_first():
    """Three rows each: the second conversation is row 3, its views rows 4 and 5."""
    first = Example(plain(1, 2), [IGNORED_LABEL, 2], (plain(1), plain(2)))
    second = Example(plain(3, 4, 5), [IGNORED_LABEL, IGNORED_LABEL, 5], (plain(3), plain(4, 5)))
    batch = RowsLayout(PAD).lay_out([first, second])
    assert batch.conversation_positions_C.tolist() == [0, 1, 9, 10, 11]
    assert batch.label_positions_M.tolist() == [0, 10]
    assert batch.view_readouts_VN.tolist() == [[3, 12], [6, 16]]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_label_of_the_first_token_is_never_scored(layout: Layout):
    """No hidden state precedes it; all other labels are scored."""
    batch = layout.lay_out([Example(plain(4, 5, 6), [4, 5, 6], (plain(4), plain(6)))])
    assert batch.label_positions_M.tolist() == [0, 1]
    assert batch.label_ids_M.tolist() == [5, 6]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_without_labels_and_views_the_tensors_are_empty_and_of_integers(layout: Layout):
    """The targets of a no-grad forward are laid out so."""
    batch = layout.lay_out([Example(plain(4, 5), (), ()), Example(plain(6), (), ())])
    assert batch.label_positions_M.shape == batch.label_ids_M.shape == (0,)
    assert batch.view_readouts_VN.shape == (0, 2)
    assert batch.label_positions_M.dtype == batch.label_ids_M.dtype == batch.view_readouts_VN.dtype == torch.long


def read_off(batch: Batch, flat_position: int) -> list[tuple[int, int, int]]:
    """(token id, slot, position id) of all that a position may attend to, in the order in which they are stored."""
    row, index = divmod(flat_position, batch.input_ids_RL.shape[1])
    keys = tree_mask(batch.subtree_ends_RL)[row, 0, index].nonzero().flatten()
    columns = (batch.input_ids_RL, batch.slots_RL, batch.position_ids_RL)
    return list(zip(*(column_RL[row, keys].tolist() for column_RL in columns), strict=True))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@given(examples=batches_of_examples())
def test_batch_holds_every_sequence_and_every_label(layout: Layout, examples: list[Example]):
    """What a readout may attend to is its view, token by token; each scored position predicts its label's token."""
    batch = layout.lay_out(examples)
    conversation_tokens, labelled = [], []
    for n, example in enumerate(examples):
        for v, view in enumerate(example.views):
            expected = list(zip(view.token_ids, view.slots, range(len(view)), strict=True))
            assert read_off(batch, int(batch.view_readouts_VN[v, n])) == expected
        conversation_tokens.extend(example.conversation.token_ids)
        labelled.extend(
            (tuple(example.conversation.token_ids[:j]), label)
            for j, label in enumerate(example.labels)
            if j > 0 and label != IGNORED_LABEL
        )
    stored_C = batch.input_ids_RL.flatten()[batch.conversation_positions_C]
    assert stored_C.tolist() == conversation_tokens
    for end, example in zip(batch.conversation_ends_N.tolist(), examples, strict=True):
        assert [token for token, _, _ in read_off(batch, end)] == list(example.conversation.token_ids)
    scored = [
        (tuple(token for token, _, _ in read_off(batch, position)), label)
        for position, label in zip(batch.label_positions_M.tolist(), batch.label_ids_M.tolist(), strict=True)
    ]
    assert scored == labelled


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@given(examples=batches_of_examples(), data=st.data())
def test_a_mean_is_over_the_tokens_of_its_sequence_from_its_start_on(
    layout: Layout, examples: list[Example], data: st.DataObject
):
    """In order, wherever they are stored. Without a start it is the last token."""

    def started(sequence: TokenSequence) -> TokenSequence:
        return replace(sequence, mean_start=data.draw(st.none() | st.integers(0, len(sequence) - 1)))

    examples = [
        replace(one, conversation=started(one.conversation), views=tuple(map(started, one.views))) for one in examples
    ]
    batch = layout.lay_out(examples)
    positions_QNT = batch.mean_positions_QNT
    expected = [
        [
            [(sequence.token_ids[i], sequence.slots[i], i) for i in range(len(sequence))][_start(sequence) :]
            for sequence in (one.conversation, *one.views)
        ]
        for one in examples
    ]
    if positions_QNT is None:
        assert all(len(tokens) == 1 for one in expected for tokens in one)
        return
    columns = (batch.input_ids_RL, batch.slots_RL, batch.position_ids_RL)
    for n, one in enumerate(expected):
        for q, tokens in enumerate(one):
            found_T = positions_QNT[q, n][positions_QNT[q, n] >= 0]
            assert list(zip(*(column_RL.flatten()[found_T].tolist() for column_RL in columns), strict=True)) == tokens


def _start(sequence: TokenSequence) -> int:
    return len(sequence) - 1 if sequence.mean_start is None else sequence.mean_start


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=lambda layout: layout.name)
@given(examples=batches_of_examples())
def test_padding_attends_to_itself_alone(layout: Layout, examples: list[Example]):
    """Padding lies at the end of a row; no token sees it, and it is not counted."""
    batch = layout.lay_out(examples)
    allowed_RLL = tree_mask(batch.subtree_ends_RL)[:, 0]
    num_tokens = 0
    rows = [row for example in examples for row in layout.store(example).rows]
    for row, allowed_LL in zip(rows, allowed_RLL, strict=True):
        length = len(row.token_ids)
        num_tokens += length
        assert not allowed_LL[:length, length:].any()
        assert torch.equal(allowed_LL[length:], torch.eye(len(allowed_LL), dtype=torch.bool)[length:])
    assert batch.num_tokens == num_tokens
