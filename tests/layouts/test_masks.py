"""The predicate against a brute-force ancestor matrix, the forms of the mask against it, and what they hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llm_jepa.layouts.masks import MaskForm, MaskValues, may_attend, padding_mask, tree_mask, within_window

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


def forms(values: MaskValues, window_tokens: int = 3) -> list[MaskForm]:
    """Every form with four dimensions."""
    return [
        MaskForm("plain", values),
        MaskForm("windowed", values, window_tokens),
        MaskForm("by_layer_type", values, window_tokens, LAYER_TYPES),
    ]


def by_layer(mask) -> list:
    """The masks of a form: one, or the sliding layers' and the full layers'."""
    return [mask[name] for name in LAYER_TYPES] if isinstance(mask, dict) else [mask]


def allowed_of(mask, values: MaskValues) -> Tensor:
    """A mask as booleans; of a block mask both what its function says and what its blocks leave out."""
    if values == "boolean":
        return mask
    if values == "additive":
        return mask == 0
    num_rows, _, length, _ = mask.shape
    said = create_mask(mask.mask_mod, num_rows, 1, length, length, device="cpu")
    kept = mask.to_dense().bool()  # 1 for each block of 128 x 128 that is not skipped
    kept = kept.repeat_interleave(128, dim=2).repeat_interleave(128, dim=3)[:, :, :length, :length]
    assert not (said & ~kept).any()
    return said


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
    index_L = torch.arange(4)
    near_LL = within_window(index_L[:, None], index_L[None], 2) & tree_mask(torch.full((1, 4), 4))[0, 0]
    assert near_LL.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def batch_of(forests_: list[Forest], more_padding: int = 0) -> tuple[list[Forest], Tensor, Tensor]:
    """The forests padded to one length, their subtree ends and their position ids."""
    length = max(forest.length for forest in forests_) + more_padding
    padded = [Forest(forest.parents, length - forest.num_tokens) for forest in forests_]
    ends_BL = torch.stack([forest.subtree_ends() for forest in padded])
    return padded, ends_BL, torch.stack([forest.position_ids() for forest in padded])


@settings(deadline=None)
@given(
    forests_=st.lists(forests(), min_size=1, max_size=3),
    window_tokens=st.integers(1, 5),
    values=st.sampled_from(["boolean", "additive", "block"]),
    more_padding=st.sampled_from([0, 120]),
)
def test_every_form_says_what_walking_up_the_tree_says(forests_, window_tokens, values, more_padding):
    """Booleans, numbers and blocks alike, of rows of every length, one block or two."""
    padded, ends_BL, position_ids_BL = batch_of(forests_, more_padding)
    windows = [[None], [window_tokens], [window_tokens, None]]  # of each form's masks
    for form, form_windows in zip(forms(values, window_tokens), windows, strict=True):
        masks = by_layer(form.build(ends_BL, position_ids_BL))
        for mask, window in zip(masks, form_windows, strict=True):
            expected_B1LL = torch.stack([forest.allowed(window) for forest in padded])[:, None]
            assert torch.equal(allowed_of(mask, values), expected_B1LL)


@given(forest=forests(), values=st.sampled_from(["boolean", "additive"]))
def test_no_row_of_any_form_is_fully_masked(forest: Forest, values: MaskValues):
    """A row without a key gives NaN under eager attention; padding is no exception."""
    for form in forms(values):
        for mask_11LL in by_layer(form.build(*one_row(forest))):
            assert allowed_of(mask_11LL, values)[0, 0].diagonal().all()


def test_additive_form_is_the_boolean_one_in_numbers():
    """0 where allowed, the lowest float32 elsewhere."""
    allowed, added = (
        MaskForm("plain", values).build(*one_row(Forest([-1, 0, 0], 1))) for values in ("boolean", "additive")
    )
    assert allowed.dtype == torch.bool
    assert added.dtype == torch.float32
    assert torch.equal(added, torch.where(allowed, 0.0, torch.finfo(torch.float32).min))


@given(forest=forests())
def test_form_by_layer_type_holds_the_window_for_sliding_layers_alone(forest: Forest):
    """Each layer type gets its own mask."""
    masks = MaskForm("by_layer_type", window_tokens=3, layer_types=LAYER_TYPES).build(*one_row(forest))
    assert set(masks) == set(LAYER_TYPES)
    assert torch.equal(masks["sliding_attention"][0, 0], forest.allowed(window_tokens=3))
    assert torch.equal(masks["full_attention"][0, 0], forest.allowed())


def chains(num_rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Rows of one sequence each."""
    return torch.full((num_rows, length), length), torch.arange(length).repeat(num_rows, 1)


def test_size_grows_with_the_rows_and_not_with_their_square():
    """A dense mask has a number per pair of tokens of a row; a block mask a few per pair of blocks of 128."""
    for num_rows in (1, 2, 8):
        ends_BL, position_ids_BL = chains(num_rows, 300)
        assert MaskForm("plain").build(ends_BL, position_ids_BL).shape == (num_rows, 1, 300, 300)
        block_mask = MaskForm("plain", "block").build(ends_BL, position_ids_BL)
        assert block_mask.kv_indices.shape == block_mask.full_kv_indices.shape == (num_rows, 1, 3, 3)
        assert block_mask.shape == (num_rows, 1, 300, 300)


def test_blocks_between_branches_are_skipped():
    """Two branches of two blocks each under one root of a block: neither's blocks are computed for the other."""
    root, branch = 128, 256
    ends_1L = torch.tensor([[root + 2 * branch] * root + [root + branch] * branch + [root + 2 * branch] * branch])
    computed = MaskForm("plain", "block").build(ends_1L, ends_1L).to_dense()[0, 0].tolist()
    assert computed == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]


class _LargestTensor(TorchDispatchMode):
    """Watches every operation for the number of elements of what it makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max(self.elements, *made, 0)
        return result


@pytest.mark.parametrize("form", [*forms("boolean"), *forms("additive"), MaskForm("padding"), MaskForm("positions")])
def test_nothing_quadratic_in_the_batch_is_made_on_the_way(form: MaskForm):
    """Not even in between: with 32 rows of 20 tokens no tensor has more elements than 32 x 20 x 20."""
    num_rows, length = 32, 20
    with _LargestTensor() as largest:
        form.build(*chains(num_rows, length))
    per_row = 1 if form.kind in ("padding", "positions") else length
    assert largest.elements <= num_rows * length * per_row


@pytest.mark.parametrize("form", forms("block"))
def test_block_mask_makes_nothing_quadratic_in_the_batch(form: MaskForm):
    """On the CPU, uncompiled, it pads each row to whole blocks, 128 x 128 pairs here, and no more."""
    num_rows = 32
    with _LargestTensor() as largest:
        form.build(*chains(num_rows, 20))
    assert largest.elements <= num_rows * 128 * 128


def test_positions_form_has_no_mask():
    """The bounds of the sequences, which the layout gives, say it all."""
    assert MaskForm("positions").build(*chains(2, 4)) is None


@pytest.mark.parametrize("lengths", [[4, 2, 1], [3, 3]])
def test_padding_form_marks_the_tokens_of_rows_with_one_sequence(lengths: list[int]):
    """1 for each token, 0 for padding."""
    total = max(lengths)
    ends_BL = torch.tensor([[n] * n + list(range(n + 1, total + 1)) for n in lengths])
    expected = [[1] * n + [0] * (total - n) for n in lengths]
    assert padding_mask(ends_BL).tolist() == expected
    assert MaskForm("padding").build(ends_BL, torch.zeros_like(ends_BL)).tolist() == expected
