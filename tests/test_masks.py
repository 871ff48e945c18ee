"""The predicate against a brute-force ancestor matrix, and the forms of the mask against the predicate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from llm_jepa.masks import MaskForm, may_attend, padding_mask, tree_mask, within_window

LAYER_TYPES = ("sliding_attention", "full_attention")


class Forest:
    """A random forest in preorder, each token's parent before it; -1 for a root."""

    def __init__(self, parents: list[int], num_padding: int):
        self.parents = parents
        self.num_tokens = len(parents)
        self.length = self.num_tokens + num_padding

    def ancestors_and_self(self, index: int) -> list[int]:
        """By walking up, the token first."""
        found = []
        while index >= 0:
            found.append(index)
            index = self.parents[index]
        return found

    def allowed(self, window_tokens: int | None = None) -> Tensor:
        """Who may attend to whom: ancestors at most `window_tokens - 1` steps up, padding to itself."""
        allowed = torch.eye(self.length, dtype=torch.bool)
        for query in range(self.num_tokens):
            for key in self.ancestors_and_self(query)[:window_tokens]:
                allowed[query, key] = True
        return allowed

    def subtree_ends(self) -> Tensor:
        """One past the last descendant, by searching for it."""
        ends = [
            1 + max(token for token in range(self.num_tokens) if index in self.ancestors_and_self(token))
            for index in range(self.num_tokens)
        ]
        return torch.tensor([*ends, *range(self.num_tokens + 1, self.length + 1)])

    def position_ids(self) -> Tensor:
        """Depths; 0 for padding."""
        depths = [len(self.ancestors_and_self(index)) - 1 for index in range(self.num_tokens)]
        return torch.tensor([*depths, *[0] * (self.length - self.num_tokens)])


@st.composite
def forests(draw) -> Forest:
    """In preorder a token's parent is the token before it, one of that one's ancestors, or none."""
    parents = [-1]
    for index in range(1, draw(st.integers(1, 12))):
        path = Forest(parents, 0).ancestors_and_self(index - 1)
        parents.append(draw(st.sampled_from([*path, -1])))
    return Forest(parents, draw(st.integers(0, 3)))


def one_row(forest: Forest) -> tuple[Tensor, Tensor]:
    return forest.subtree_ends()[None], forest.position_ids()[None]


def forms(additive: bool) -> list[MaskForm]:
    """Every form with four dimensions."""
    return [
        MaskForm("plain", additive),
        MaskForm("windowed", additive, 3),
        MaskForm("by_layer_type", additive, 3, LAYER_TYPES),
    ]


def tensors(mask) -> list[Tensor]:
    return list(mask.values()) if isinstance(mask, dict) else [mask]


@given(forest=forests())
def test_predicate_is_ancestry(forest: Forest):
    """Against walking up the tree."""
    subtree_ends_1L, _ = one_row(forest)
    assert torch.equal(tree_mask(subtree_ends_1L)[0, 0], forest.allowed())


@given(forest=forests(), window_tokens=st.integers(1, 5))
def test_window_counts_steps_along_the_branch(forest: Forest, window_tokens: int):
    """Not tokens of the row: a branch forks off long before where it is stored."""
    form = MaskForm("windowed", window_tokens=window_tokens)
    assert torch.equal(form.build(*one_row(forest))[0, 0], forest.allowed(window_tokens))


def test_predicate_takes_any_broadcastable_indices():
    """The queries of a block need not be all queries."""
    subtree_end_K = torch.tensor([3, 2, 3])
    allowed = may_attend(torch.tensor([[2]]), torch.arange(3)[None], subtree_end_K)
    assert allowed.tolist() == [[True, False, True]]


def test_window_of_a_plain_row():
    """With a window of two a token sees itself and the one before it."""
    near_LL = within_window(torch.arange(4)[None], 2)[0, 0] & tree_mask(torch.full((1, 4), 4))[0, 0]
    assert near_LL.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


@given(forest=forests(), additive=st.booleans())
def test_no_row_of_any_form_is_fully_masked(forest: Forest, additive: bool):
    """A row without a key gives NaN under eager attention; padding is no exception."""
    for form in forms(additive):
        for mask_11LL in tensors(form.build(*one_row(forest))):
            allowed = mask_11LL == 0 if additive else mask_11LL
            assert allowed[0, 0].diagonal().all()


@given(forest=forests())
def test_additive_form_is_the_boolean_one_in_numbers(forest: Forest):
    """0 where allowed, the lowest float32 elsewhere."""
    for boolean, additive in zip(forms(additive=False), forms(additive=True), strict=True):
        pairs = zip(tensors(boolean.build(*one_row(forest))), tensors(additive.build(*one_row(forest))), strict=True)
        for allowed, added in pairs:
            assert allowed.dtype == torch.bool
            assert added.dtype == torch.float32
            expected = torch.where(allowed, 0.0, torch.finfo(torch.float32).min)
            assert torch.equal(added, expected)


@given(forest=forests())
def test_form_by_layer_type_holds_the_window_for_sliding_layers_alone(forest: Forest):
    """Each layer type gets its own mask."""
    masks = MaskForm("by_layer_type", window_tokens=3, layer_types=LAYER_TYPES).build(*one_row(forest))
    assert set(masks) == set(LAYER_TYPES)
    assert torch.equal(masks["sliding_attention"][0, 0], forest.allowed(window_tokens=3))
    assert torch.equal(masks["full_attention"][0, 0], forest.allowed())


@given(forests_=st.lists(forests(), min_size=2, max_size=4))
def test_rows_of_a_batch_are_masked_each_by_itself(forests_: list[Forest]):
    """The mask of a batch is the stack of its rows' masks: nothing grows with the square of the batch."""
    length = max(forest.length for forest in forests_)
    padded = [Forest(forest.parents, length - forest.num_tokens) for forest in forests_]
    ends_BL = torch.stack([forest.subtree_ends() for forest in padded])
    position_ids_BL = torch.stack([forest.position_ids() for forest in padded])
    mask_B1LL = MaskForm("windowed", window_tokens=3).build(ends_BL, position_ids_BL)
    assert mask_B1LL.shape == (len(padded), 1, length, length)
    assert torch.equal(mask_B1LL[:, 0], torch.stack([forest.allowed(3) for forest in padded]))


@pytest.mark.parametrize("lengths", [[4, 2, 1], [3, 3]])
def test_padding_form_marks_the_tokens_of_rows_with_one_sequence(lengths: list[int]):
    """1 for each token, 0 for padding."""
    total = max(lengths)
    ends_BL = torch.tensor([[n] * n + list(range(n + 1, total + 1)) for n in lengths])
    expected = [[1] * n + [0] * (total - n) for n in lengths]
    assert padding_mask(ends_BL).tolist() == expected
    assert MaskForm("padding").build(ends_BL, torch.zeros_like(ends_BL)).tolist() == expected
