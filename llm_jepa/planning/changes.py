"""Finds changes with which a recipe fits into memory, the cheapest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_jepa.compute.devices import GPU
from llm_jepa.planning.memory import LAUNCHES, Launch
from llm_jepa.planning.plan import usable_bytes
from llm_jepa.planning.workload import Workload, draw_workload
from llm_jepa.recipe import Recipe, build_recipe
from llm_jepa.settings.objectives import needs_views, options_with_effect, row_comparing_option


@dataclass(frozen=True)
class Change:
    """A change of settings.

    Attributes:
        settings: The new settings of the recipe.
        launch: A launch file of recipes/accelerate.
        keeps_result: Whether training is the same up to rounding.
        peak_bytes: Peak memory after the change, with the longest rows in one micro-batch.
        flops_ratio: FLOPs of a row with its JEPA term, after the change over before.
    """

    settings: dict[str, Any]
    launch: Launch
    keeps_result: bool
    peak_bytes: float
    flops_ratio: float


@dataclass(frozen=True)
class _Candidate:
    settings: dict[str, Any]
    launch: Launch
    keeps_result: bool

    @property
    def is_smaller_batch(self) -> bool:
        return "per_device_train_batch_size" in self.settings

    def and_then(self, other: "_Candidate") -> "_Candidate":
        further = max(self.launch, other.launch, key=LAUNCHES.index)
        return _Candidate(self.settings | other.settings, further, self.keeps_result and other.keeps_result)


def changes_that_fit(recipe: Recipe, gpu: GPU, num_devices: int, launch: Launch) -> list[Change]:
    """The changes with which the recipe fits: those that keep the result first, then by cost.

    Each change is tried alone and, while none has been enough, together with all before it. Of smaller micro-batches,
    the largest that fits is returned. Loss dropout is no candidate: a step that keeps the JEPA term needs as much
    memory as without dropout.
    """
    before = draw_workload(recipe, launch, True)
    flops_before = before.flops_per_row()
    found: list[Change] = []
    together = _Candidate({}, launch, True)
    has_batch = False
    for candidate in _candidates(recipe, before.prepared.is_tokenised, num_devices, launch):
        if candidate.is_smaller_batch and has_batch:
            continue
        together = together.and_then(candidate)
        for tried in [candidate] if together == candidate else [candidate, together]:
            if tried is not candidate and found:
                continue
            change = _try(before, flops_before, tried, gpu, num_devices)
            if change is not None:
                found.append(change)
                has_batch |= candidate.is_smaller_batch
    return sorted(found, key=_price)


def _price(change: Change) -> tuple[bool, bool, float, int]:
    """Sort key: keeps the result, no offload to the host, fewest FLOPs, fewest settings."""
    return not change.keeps_result, change.launch == "zero3-offload", change.flops_ratio, len(change.settings)


def _candidates(recipe: Recipe, is_tokenised: bool, num_devices: int, launch: Launch) -> Iterator[_Candidate]:
    """The candidates, from free ones to those that change what is trained."""
    args = recipe.training
    size, rows = args.per_device_train_batch_size, args.per_device_train_batch_size * args.gradient_accumulation_steps
    is_pair = args.jepa_weight > 0 and needs_views(args.jepa_objective)
    compares_rows = is_pair and row_comparing_option(args) is not None  # of the micro-batch
    for smaller in (one for one in range(size - 1, 1 if compares_rows else 0, -1) if size % one == 0):
        settings = {"per_device_train_batch_size": smaller, "gradient_accumulation_steps": rows // smaller}
        yield _Candidate(settings, launch, not compares_rows)
    further: tuple[Launch, ...] = ("zero2", "zero3") if num_devices > 1 else ()
    for one in further:
        if LAUNCHES.index(one) > LAUNCHES.index(launch):
            yield _Candidate({}, one, True)
    if not args.gradient_checkpointing:
        yield _Candidate({"gradient_checkpointing": True}, launch, True)
    if LAUNCHES.index(launch) < LAUNCHES.index("zero3-offload"):
        yield _Candidate({}, "zero3-offload", True)
    cheap = {"jepa_source_view": "prefix"}
    if args.jepa_target == "online":
        cheap["jepa_target"] = "stop_gradient"
    if args.source_view_column is not None:  # such a source is no prefix of the conversation
        del cheap["jepa_source_view"]
    cheap = {key: value for key, value in cheap.items() if key in options_with_effect(args.jepa_objective)}
    if is_pair and not is_tokenised and any(getattr(args, key) != value for key, value in cheap.items()):
        yield _Candidate(cheap, launch, False)
    if not recipe.model.use_peft and not args.from_scratch:
        yield _Candidate({"use_peft": True, "lora_target_modules": "all-linear", "dtype": "bfloat16"}, launch, False)


def _try(before: Workload, flops_before: float, candidate: _Candidate, gpu: GPU, num_devices: int) -> Change | None:
    """The change of a candidate; None if the recipe still does not fit, or training would refuse it."""
    settings = before.recipe.settings | candidate.settings | {"long_rows": "drop"}  # other views may be longer
    has_other_views = any(key.startswith("jepa_") for key in candidate.settings)
    try:
        recipe = build_recipe(before.recipe.path, settings)
        drawn = draw_workload(recipe, candidate.launch, True, None if has_other_views else before.prepared)
    except ValueError:
        return None
    peak = sum(drawn.model.memory(drawn.inputs(drawn.longest_rows()), candidate.launch, num_devices).values())
    if peak > usable_bytes(gpu):
        return None
    return Change(
        settings=candidate.settings,
        launch=candidate.launch,
        keeps_result=candidate.keeps_result,
        peak_bytes=peak,
        flops_ratio=drawn.flops_per_row() / flops_before,
    )
