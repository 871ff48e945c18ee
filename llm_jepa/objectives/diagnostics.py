"""Measures of the two views' embeddings: paired and unpaired cosine, retrieval, effective rank. Pure functions.

Legend: N pairs, D the model's width.
"""

from collections import deque

import torch
import torch.nn.functional as F
from torch import Tensor

COLLAPSED_COSINE = 0.99
COLLAPSED_RANK = 2.0
MIN_RANKED_TARGETS = 8
"""Fewer distinct targets have a low rank without any collapse."""
# Cosines of equal rows can differ by this much in a float32 matrix product, so a smaller difference is a tie.
_COSINE_ROUNDING = 1e-6


def paired_cosine(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Mean over pairs of `cos(prediction_i, target_i)`."""
    return F.cosine_similarity(prediction_ND.float(), target_ND.float(), dim=-1).mean()


def unpaired_cosine(prediction_ND: Tensor, target_ND: Tensor, target_key_N: Tensor | None = None) -> Tensor:
    """Mean of `cos(prediction_i, target_j)` over i and j with different targets. If it equals the paired cosine, no
    pair can be told apart.

    `target_key_N` is equal for rows with the same target. Without keys all targets are different ones.

    Raises:
        ValueError: There are no two pairs with different targets.
    """
    cosine_NN = _cosines(prediction_ND, target_ND)
    is_other_NN = _has_other_target(len(cosine_NN), target_key_N, cosine_NN.device)
    if not is_other_NN.any():
        raise ValueError(
            f"The unpaired cosine needs two pairs with different targets; of {len(cosine_NN)} there are none."
        )
    return cosine_NN[is_other_NN].mean()


def retrieval_at_1(prediction_ND: Tensor, target_ND: Tensor, target_key_N: Tensor | None = None) -> Tensor:
    """Share of predictions whose own target is nearer (by cosine) than all other ones; a tie is a miss.

    `target_key_N` is equal for rows with the same target, which are not told apart. A row to which every target
    belongs is a miss. Without keys all targets are different ones.
    """
    cosine_NN = _cosines(prediction_ND, target_ND)
    is_other_NN = _has_other_target(len(cosine_NN), target_key_N, cosine_NN.device)
    nearest_N = cosine_NN.masked_fill(~is_other_NN, -torch.inf).max(dim=1).values
    is_hit_N = cosine_NN.diagonal() > nearest_N + _COSINE_ROUNDING
    return (is_hit_N & is_other_NN.any(dim=1)).float().mean()


def effective_rank(embedding_ND: Tensor) -> Tensor:
    """`exp(H(p))`, where p are the singular values of the unit-length rows, divided by their sum. It is 1 if all rows
    are equal, and min(N, D) if they spread evenly. Roy and Vetterli 2007; Garrido et al. 2023 (RankMe, arXiv
    2210.02885).
    """
    singular_values = torch.linalg.svdvals(F.normalize(embedding_ND.float(), dim=-1))
    p = singular_values / singular_values.sum()
    return torch.special.entr(p).sum().exp()


def singular_values_of_difference(source_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Singular values of `source - target` of unit-length rows, largest first, over the square root of N: value_K.

    If only a few are large, the views differ in only a few directions (LLM-JEPA, arXiv 2509.14252, analysis of the map
    between the views).
    """
    difference_ND = F.normalize(source_ND.float(), dim=-1) - F.normalize(target_ND.float(), dim=-1)
    return torch.linalg.svdvals(difference_ND) / len(difference_ND) ** 0.5


def linear_map_error(source_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Error of a linear map from sources to targets, on rows that it was not fitted on.

        ||T - (S - mean S) W - mean T||^2 / ||T - mean T||^2

    W is fitted by ridge regression on the first half of the rows and tested on the second. 0 means that the map is
    linear, 1 that it is no better than the mean target. The ridge is a thousandth of the sources' variance, summed
    over the fitted rows, so there may be fewer rows than dimensions.

    Raises:
        ValueError: There are fewer than four rows.
    """
    n = len(source_ND)
    if n < 4:
        raise ValueError(
            f"A linear map is fitted on half of the rows and tested on the rest: it needs four rows; there are {n}."
        )
    half = n // 2
    source_ND, target_ND = source_ND.double(), target_ND.double()
    source_mean_D, target_mean_D = source_ND[:half].mean(0), target_ND[:half].mean(0)
    source_ND, target_ND = source_ND - source_mean_D, target_ND - target_mean_D
    gram_DD = source_ND[:half].T @ source_ND[:half]
    ridge_DD = 1e-3 * gram_DD.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram_DD), dtype=gram_DD.dtype)
    map_DD = torch.linalg.solve(gram_DD + ridge_DD, source_ND[:half].T @ target_ND[:half])
    rest_ND = target_ND[half:] - source_ND[half:] @ map_DD
    return rest_ND.square().sum() / target_ND[half:].square().sum()


REMEDY = (
    "Lower `jepa_weight`, or try `jepa_target: stop_gradient`, `jepa_loss: info_nce` or `jepa_regulariser: sigreg`."
)


def collapse_warning(unpaired: float, rank: float, num_targets: int, remedy: str = REMEDY) -> str | None:
    """The warning for collapsed embeddings, all equal or all on one line; None if they are not.

    The rank tells it of `MIN_RANKED_TARGETS` distinct targets and more.
    """
    if unpaired < COLLAPSED_COSINE and (rank > COLLAPSED_RANK or num_targets < MIN_RANKED_TARGETS):
        return None
    return (
        f"The embeddings have collapsed: the mean cosine of unpaired views is {unpaired:.4f} (alarm from "
        f"{COLLAPSED_COSINE}) and the effective rank {rank:.2f} (alarm up to {COLLAPSED_RANK}). The JEPA loss can be "
        f"low although nothing was learned. {remedy}"
    )


class PairBuffer:
    """A rolling buffer of the latest micro-batches; the oldest are dropped while `min_pairs` pairs remain.

    `summary` computes on demand, so that a training step never waits for the device.
    """

    def __init__(self, min_pairs: int = 64):
        self.min_pairs = min_pairs
        self._batches: deque[tuple[Tensor, Tensor, Tensor]] = deque()

    def __len__(self) -> int:
        return sum(len(prediction_ND) for prediction_ND, *_ in self._batches)

    def append(self, prediction_ND: Tensor, target_ND: Tensor, target_key_N: Tensor) -> None:
        """Add one micro-batch. `target_key_N` is equal for rows with the same target."""
        self._batches.append((prediction_ND.detach(), target_ND.detach(), target_key_N))
        while len(self) - len(self._batches[0][0]) >= self.min_pairs:
            self._batches.popleft()

    @property
    def num_targets(self) -> int:
        """Distinct targets of the pairs."""
        return len(torch.cat([key_N for *_, key_N in self._batches]).unique()) if self._batches else 0

    def clear(self) -> None:
        """Remove every pair."""
        self._batches.clear()

    def batches(self) -> list[tuple[Tensor, ...]]:
        """Copies of the micro-batches, oldest first. Appending them to an empty buffer restores this one."""
        return [tuple(tensor.clone() for tensor in batch) for batch in self._batches]

    def summary(self) -> dict[str, float]:
        """Unpaired cosine, effective rank of the targets, and retrieval@1; empty with fewer than two pairs.

        Where all pairs have one target, there is no unpaired cosine.
        """
        if len(self) < 2:
            return {}
        prediction_ND, target_ND, key_N = map(torch.cat, zip(*self._batches, strict=True))
        unpaired = (
            {"jepa_cosine_unpaired": unpaired_cosine(prediction_ND, target_ND, key_N).item()}
            if self.num_targets > 1
            else {}
        )
        return unpaired | {
            "jepa_effective_rank": effective_rank(target_ND).item(),
            "jepa_retrieval_at_1": retrieval_at_1(prediction_ND, target_ND, key_N).item(),
        }


def _has_other_target(num_pairs: int, target_key_N: Tensor | None, device: torch.device) -> Tensor:
    """Whether row i and row j have different targets: is_other_NN."""
    key_N = torch.arange(num_pairs) if target_key_N is None else target_key_N
    return (key_N[:, None] != key_N[None, :]).to(device)


def _cosines(prediction_ND: Tensor, target_ND: Tensor) -> Tensor:
    return F.normalize(prediction_ND.float(), dim=-1) @ F.normalize(target_ND.float(), dim=-1).T
