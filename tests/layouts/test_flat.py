"""The flat layout against plain concatenation, number by number."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.data.views import IGNORED_LABEL, TokenSequence, with_predictor_tokens
from llm_jepa.layouts import Batch, Example, FlatLayout, RowsLayout
from llm_jepa.layouts.masks import MaskForm
from tests.layouts.test_rows import PAD, batches_of_examples, plain


def worked_example() -> Example:
    """That of the module's docstring, a = 1 to d = 4, with the last two tokens as labels."""
    source = with_predictor_tokens([1, 2], 1, 1, "append", PAD)
    return Example(plain(1, 2, 3, 4), [IGNORED_LABEL, IGNORED_LABEL, 3, 4], (source, plain(1, 4)))


def test_worked_example():
    """All in one row, nothing shared and nothing padded."""
    batch = FlatLayout(PAD).lay_out([worked_example()])
    assert batch.input_ids_RL.tolist() == [[1, 2, 3, 4, 1, 2, PAD, 1, 4]]
    assert batch.slots_RL.tolist() == [[0, 0, 0, 0, 0, 0, 1, 0, 0]]
    assert batch.position_ids_RL.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1]]
    assert batch.subtree_ends_RL.tolist() == [[4, 4, 4, 4, 7, 7, 7, 9, 9]]
    assert batch.cumulative_lengths_S.tolist() == [0, 4, 7, 9]
    assert batch.longest_tokens == 4
    assert batch.label_positions_M.tolist() == [1, 2]
    assert batch.conversation_ends_N.tolist() == [3]
    assert batch.view_readouts_VN.tolist() == [[6], [8]]
    assert batch.num_tokens == 9


def test_padding_to_a_multiple_is_a_sequence_of_its_own():
    """Its position ids begin anew, so that no sequence grows; it is not counted."""
    batch = FlatLayout(PAD, pad_to_multiple_of=8).lay_out([worked_example()])
    assert batch.input_ids_RL.tolist() == [[1, 2, 3, 4, 1, 2, PAD, 1, 4, *[PAD] * 7]]
    assert batch.slots_RL.tolist() == [[0, 0, 0, 0, 0, 0, 1, 0, 0, *[0] * 7]]
    assert batch.position_ids_RL.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 1, *range(7)]]
    assert batch.cumulative_lengths_S.tolist() == [0, 4, 7, 9, 16]
    assert batch.longest_tokens == 7
    assert batch.num_tokens == 9


@st.composite
def laid_out(draw) -> tuple[list[Example], Batch, int]:
    examples = draw(batches_of_examples())
    multiple = draw(st.sampled_from([None, 1, 4]))
    return examples, FlatLayout(PAD, multiple).lay_out(examples), multiple or 1


@given(drawn=laid_out())
def test_batch_is_the_sequences_one_after_another(drawn):
    """By appending to lists, example by example: conversation, then views."""
    examples, batch, multiple = drawn
    tokens, slots, positions, bounds = [], [], [], [0]
    labels, conversations, conversation_ends, readouts = [], [], [], []

    def append(sequence: TokenSequence) -> int:
        start = len(tokens)
        tokens.extend(sequence.token_ids)
        slots.extend(sequence.slots)
        positions.extend(range(len(sequence)))
        bounds.append(len(tokens))
        return start

    for example in examples:
        start = append(example.conversation)
        conversations.extend(range(start, len(tokens)))
        conversation_ends.append(len(tokens) - 1)
        labels.extend(
            (start + j - 1, label) for j, label in enumerate(example.labels) if j > 0 and label != IGNORED_LABEL
        )
        readouts.append([append(view) + len(view) - 1 for view in example.views])
    num_tokens = len(tokens)
    if num_tokens % multiple:
        append(plain(*[PAD] * (multiple - num_tokens % multiple)))
    assert batch.input_ids_RL.tolist() == [tokens]
    assert batch.slots_RL.tolist() == [slots]
    assert batch.position_ids_RL.tolist() == [positions]
    assert batch.cumulative_lengths_S.tolist() == bounds
    assert batch.longest_tokens == max(end - start for start, end in pairwise(bounds))
    assert list(zip(batch.label_positions_M.tolist(), batch.label_ids_M.tolist(), strict=True)) == labels
    assert batch.conversation_positions_C.tolist() == conversations
    assert batch.conversation_ends_N.tolist() == conversation_ends
    assert batch.view_readouts_VN.T.tolist() == readouts
    assert batch.num_tokens == num_tokens == RowsLayout(PAD).lay_out(examples).num_tokens


@given(drawn=laid_out())
def test_model_gets_bounds_of_sequences_and_no_mask(drawn):
    """As transformers' flash attention takes them: 32-bit integers, and the longest length on the host."""
    inputs = drawn[1].backbone_inputs(MaskForm("positions"))
    assert inputs["attention_mask"] is None
    assert inputs["cu_seq_lens_q"] is inputs["cu_seq_lens_k"]
    assert inputs["cu_seq_lens_q"].dtype == torch.int32
    assert isinstance(inputs["max_length_q"], int)
    starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
    assert inputs["cu_seq_lens_q"].tolist()[:-1] == starts
