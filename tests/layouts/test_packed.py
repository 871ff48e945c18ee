"""The trie, against a set of prefixes as the oracle."""

from hypothesis import given
from hypothesis import strategies as st

from llm_jepa.data.views import TokenSequence, with_predictor_tokens
from llm_jepa.layouts import Example, PackedLayout, RowsLayout
from llm_jepa.layouts.base import StoredRow

PLACEHOLDER = 0
"""Also a token of the small alphabet: only its slot tells a predictor token from that one."""

Prefix = tuple[tuple[int, int], ...]


def plain(*token_ids: int) -> TokenSequence:
    return TokenSequence(token_ids, (0,) * len(token_ids))


@st.composite
def views(draw) -> TokenSequence:
    """One to seven tokens of an alphabet of two, with up to two predictor tokens after or before the content."""
    token_ids = draw(st.lists(st.integers(0, 1), min_size=1, max_size=7))
    start = draw(st.integers(0, len(token_ids) - 1))
    num_tokens = draw(st.integers(0, 2))
    return with_predictor_tokens(
        token_ids, start, num_tokens, draw(st.sampled_from(["append", "prepend"])), PLACEHOLDER
    )


examples = st.builds(
    Example,
    st.lists(st.integers(0, 1), min_size=1, max_size=9).map(lambda token_ids: plain(*token_ids)),
    st.just(()),
    st.lists(views(), max_size=4).map(tuple),
)


def prefixes_of(sequence: TokenSequence) -> list[Prefix]:
    """A node of a trie is a prefix: all of them, the shortest first."""
    pairs = tuple(zip(sequence.token_ids, sequence.slots, strict=True))
    return [pairs[:length] for length in range(1, len(pairs) + 1)]


def ancestors_and_self(row: StoredRow, index: int) -> list[int]:
    """The predicate, written out: what the token at an index may attend to."""
    return [key for key in range(len(row.token_ids)) if key <= index < row.subtree_ends[key]]


def stored_prefixes(row: StoredRow) -> list[Prefix]:
    """Which prefix each stored token stands for, read off by its mask."""
    return [
        tuple((row.token_ids[key], row.slots[key]) for key in ancestors_and_self(row, index))
        for index in range(len(row.token_ids))
    ]


def pack(*sequences: TokenSequence) -> tuple[StoredRow, list[int]]:
    """The only row of the example, and the index at which each sequence ends."""
    stored = PackedLayout(PLACEHOLDER).store(Example(sequences[0], (), sequences[1:]))
    (row,) = stored.rows
    assert {row_index for row_index, _ in stored.ends} == {0}
    return row, [index for _, index in stored.ends]


def test_worked_example_of_the_module():
    """Conversation "a b c d", its prefix "a b" with one predictor token P, target view "a d"."""
    a, b, c, d = 1, 2, 3, 4
    source = with_predictor_tokens([a, b], 0, 1, "append", PLACEHOLDER)
    row, ends = pack(plain(a, b, c, d), source, plain(a, d))
    assert list(row.token_ids) == [a, b, c, d, PLACEHOLDER, d]
    assert list(row.slots) == [0, 0, 0, 0, 1, 0]
    assert list(row.position_ids) == [0, 1, 2, 3, 2, 1]
    assert list(row.subtree_ends) == [6, 5, 4, 4, 5, 6]
    assert ends == [3, 4, 5]
    assert ancestors_and_self(row, 4) == [0, 1, 4]


def test_branch_of_a_view_that_forks_off_another_view():
    """The third sequence shares more with the second than with the first, and is stored under it."""
    row, ends = pack(plain(1, 2), plain(1, 3, 4, 5), plain(1, 3, 4, 6, 7))
    assert list(row.token_ids) == [1, 2, 3, 4, 5, 6, 7]
    assert list(row.position_ids) == [0, 1, 1, 2, 3, 3, 4]
    assert list(row.subtree_ends) == [7, 2, 7, 7, 5, 7, 7]
    assert ends == [1, 4, 6]


def test_identical_sequences_are_stored_once():
    """Views that equal the conversation cost nothing; all are read out at its last token."""
    row, ends = pack(plain(1, 2, 3), plain(1, 2, 3), plain(1, 2, 3))
    assert list(row.token_ids) == [1, 2, 3]
    assert ends == [2, 2, 2]


def test_prefix_of_the_conversation_is_stored_within_it():
    """So a source view `prefix` without predictor tokens costs nothing."""
    row, ends = pack(plain(1, 2, 3), plain(1, 2))
    assert list(row.token_ids) == [1, 2, 3]
    assert ends == [2, 1]


def test_view_that_continues_the_conversation_hangs_at_its_last_token():
    """The conversation is the prefix here."""
    row, ends = pack(plain(1, 2), plain(1, 2, 3))
    assert list(row.token_ids) == [1, 2, 3]
    assert list(row.subtree_ends) == [3, 3, 3]
    assert ends == [1, 2]


def test_sequences_with_nothing_in_common_are_trees_of_their_own():
    """No token of one may attend to a token of another."""
    row, ends = pack(plain(1, 2), plain(3, 4), plain(5))
    assert list(row.token_ids) == [1, 2, 3, 4, 5]
    assert list(row.position_ids) == [0, 1, 0, 1, 0]
    assert list(row.subtree_ends) == [2, 2, 4, 4, 5]
    assert ends == [1, 3, 4]


def test_predictor_token_is_not_shared_with_its_placeholder_in_the_vocabulary():
    """The same token id at the same place: two tokens, since one of them is a learned vector."""
    row, ends = pack(plain(1, PLACEHOLDER), with_predictor_tokens([1], 0, 1, "append", PLACEHOLDER))
    assert list(row.token_ids) == [1, PLACEHOLDER, PLACEHOLDER]
    assert list(row.slots) == [0, 0, 1]
    assert ends == [1, 2]


def test_predictor_tokens_of_the_same_slot_are_shared():
    """Two views whose predictor tokens stand in the same place begin with the same vectors."""
    one, other = (with_predictor_tokens([1, last], 1, 2, "prepend", PLACEHOLDER) for last in (2, 3))
    row, _ = pack(one, other)
    assert list(row.token_ids) == [1, PLACEHOLDER, PLACEHOLDER, 2, 3]
    assert list(row.slots) == [0, 1, 2, 0, 0]


@given(example=examples)
def test_every_distinct_prefix_is_stored_exactly_once(example: Example):
    """So the number of stored tokens is the number of nodes of the trie, and slots keep predictor tokens apart."""
    sequences = (example.conversation, *example.views)
    row, _ = pack(*sequences)
    expected = {prefix for sequence in sequences for prefix in prefixes_of(sequence)}
    found = stored_prefixes(row)
    assert len(found) == len(expected)
    assert set(found) == expected


@given(example=examples)
def test_every_sequence_is_read_off_by_the_mask_of_its_readout(example: Example):
    """In order: its tokens, its slots, and position ids 0, 1, 2, ..."""
    sequences = (example.conversation, *example.views)
    row, ends = pack(*sequences)
    for sequence, end in zip(sequences, ends, strict=True):
        keys = ancestors_and_self(row, end)
        assert [row.token_ids[key] for key in keys] == list(sequence.token_ids)
        assert [row.slots[key] for key in keys] == list(sequence.slots)
        assert [row.position_ids[key] for key in keys] == list(range(len(sequence)))


@given(example=examples)
def test_predicate_is_ancestry(example: Example):
    """A token may attend to another exactly if the other's prefix begins its own."""
    row, _ = pack(example.conversation, *example.views)
    prefixes = stored_prefixes(row)
    for query, prefix in enumerate(prefixes):
        expected = [key for key, other in enumerate(prefixes) if prefix[: len(other)] == other]
        assert ancestors_and_self(row, query) == expected


@given(example=examples)
def test_trie_lies_in_preorder(example: Example):
    """The descendants of a token are the tokens from the next one to its subtree's end, without a gap."""
    row, _ = pack(example.conversation, *example.views)
    prefixes = stored_prefixes(row)
    for index, prefix in enumerate(prefixes):
        descendants = [i for i, other in enumerate(prefixes) if i != index and other[: len(prefix)] == prefix]
        assert descendants == list(range(index + 1, row.subtree_ends[index]))


@given(example=examples)
def test_conversation_lies_first_without_a_gap(example: Example):
    """Its labels and its router's tokens are found there."""
    row, ends = pack(example.conversation, *example.views)
    length = len(example.conversation)
    assert list(row.token_ids[:length]) == list(example.conversation.token_ids)
    assert list(row.position_ids[:length]) == list(range(length))
    assert ends[0] == length - 1
    assert ancestors_and_self(row, length - 1) == list(range(length))


@given(example=examples)
def test_packed_stores_at_most_what_rows_stores(example: Example):
    """And the same when nothing is shared."""
    packed = PackedLayout(PLACEHOLDER).store(example)
    rows = RowsLayout(PLACEHOLDER).store(example)
    stored = sum(len(row.token_ids) for row in packed.rows)
    plain_tokens = sum(len(row.token_ids) for row in rows.rows)
    first_tokens = [prefixes_of(sequence)[0] for sequence in (example.conversation, *example.views)]
    if len(set(first_tokens)) == len(first_tokens):
        assert stored == plain_tokens
    else:
        assert stored < plain_tokens


LONG = Example(plain(1, 2, 3, 4, 5, 6), (), (plain(1, 7, 8), plain(1, 7, 9, 9)))
"""Two views that share one token with the conversation and two with each other: 10 tokens in one row, 6 + 5 in two."""


def test_views_that_share_little_with_the_conversation_stand_in_a_second_row():
    """As a trie of their own; one that shares half of its tokens stays."""
    stored = PackedLayout(PLACEHOLDER).store_in_two_rows(LONG)
    assert [list(row.token_ids) for row in stored.rows] == [[1, 2, 3, 4, 5, 6], [1, 7, 8, 9, 9]]
    assert list(stored.rows[1].subtree_ends) == [5, 5, 3, 5, 5]
    assert stored.ends == [(0, 5), (1, 2), (1, 4)]
    near = Example(LONG.conversation, (), (plain(1, 2, 7, 7), plain(1, 7, 9)))
    stored = PackedLayout(PLACEHOLDER).store_in_two_rows(near)
    assert [list(row.token_ids) for row in stored.rows] == [[1, 2, 3, 4, 5, 6, 7, 7], [1, 7, 9]]
    assert stored.ends == [(0, 5), (0, 7), (1, 2)]


def test_two_rows_are_taken_where_they_compute_less():
    """One row of 10 costs 10 (c + 10), two of 6 cost 12 (c + 6), with padding: two from c < 14 on."""
    assert len(PackedLayout(PLACEHOLDER).store(LONG).rows[0].token_ids) == 10
    shapes = {c: PackedLayout(PLACEHOLDER, None, c).lay_out([LONG]).input_ids_RL.shape for c in (0, 13, 14, 1000)}
    assert shapes == {0: (2, 6), 13: (2, 6), 14: (1, 10), 1000: (1, 10)}


def test_padding_to_a_multiple_counts():
    """To a multiple of 8: one row of 16 against two of 8, which are the cheaper at any price; of 12, one of 12."""
    shapes = {m: PackedLayout(PLACEHOLDER, m, 1000).lay_out([LONG]).input_ids_RL.shape for m in (8, 12)}
    assert shapes == {8: (2, 8), 12: (1, 12)}


@given(example=examples)
def test_in_two_rows_every_sequence_is_read_off_as_in_one(example: Example):
    """The conversation from the start of the first row, each view in its row."""
    stored = PackedLayout(PLACEHOLDER).store_in_two_rows(example)
    assert list(stored.rows[0].token_ids[: len(example.conversation)]) == list(example.conversation.token_ids)
    for sequence, (number, end) in zip((example.conversation, *example.views), stored.ends, strict=True):
        row = stored.rows[number]
        keys = ancestors_and_self(row, end)
        assert [(row.token_ids[key], row.slots[key]) for key in keys] == list(prefixes_of(sequence)[-1])
        assert [row.position_ids[key] for key in keys] == list(range(len(sequence)))
