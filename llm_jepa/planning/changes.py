"""What to change in a recipe that does not fit, the cheapest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llm_jepa.devices import GPU
from llm_jepa.planning.memory import LAUNCHES, Launch
from llm_jepa.planning.plan import peak_bytes, room_bytes
from llm_jepa.planning.workload import Workload, draw_workload
from llm_jepa.recipe import Recipe, build_recipe


@dataclass(frozen=True)
class Change:
    """A change of settings.

    Attributes:
        settings: What to write in the recipe; `launch` names a file of recipes/accelerate.
        keeps_result: Whether the same is trained, up to rounding.
        peak_bytes: After it, when the longest rows meet in one micro-batch.
        flops_ratio: Of a step that keeps the JEPA term, after it, to one before.
    """

    settings: dict[str, Any]
    launch: Launch
    keeps_result: bool
    peak_bytes: float
    flops_ratio: float
    fits: bool


def changes_that_fit(recipe: Recipe, gpu: GPU, num_devices: int, launch: Launch) -> list[Change]:
    """The changes after which it fits, cheapest first, those that train the same before all others.

    Each is tried by itself, and, as long as none has been enough, together with those before it. Loss dropout is not
    among them: a step that keeps the JEPA term holds as much as any.
    """
    before = draw_workload(recipe, launch, True)
    flops_before = _row_flops(before)
    tried: list[Change] = []
    together: tuple[dict[str, Any], Launch, bool] = {}, launch, True
    for candidate in _candidates(recipe, num_devices, launch):
        together = (
            together[0] | candidate[0],
            max(together[1], candidate[1], key=LAUNCHES.index),
            together[2] and candidate[2],
        )
        for one in (candidate, together):
            if not any(change.fits for change in tried) or one is candidate:
                tried.append(_try(before, flops_before, one, gpu, num_devices))
    found = [change for change in tried if change.fits]
    return sorted(found, key=lambda change: (not change.keeps_result, change.flops_ratio, len(change.settings)))


def _candidates(recipe: Recipe, num_devices: int, launch: Launch) -> Iterator[tuple[dict[str, Any], Launch, bool]]:
    """Settings, launch, and whether the same is trained; from what costs nothing to what trains something else."""
    args = recipe.training
    size, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    is_in_batch = args.jepa_weight > 0 and args.jepa_loss == "info_nce"  # its negatives are the micro-batch's
    while size % 2 == 0:
        size, accumulated = size // 2, accumulated * 2
        if size > 1 or not is_in_batch:
            settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
            yield settings, launch, not is_in_batch
    if num_devices > 1:
        for further in ("zero2", "zero3"):
            if LAUNCHES.index(further) > LAUNCHES.index(launch):
                yield {}, further, True
    if not args.gradient_checkpointing:
        yield {"gradient_checkpointing": True}, launch, True
    is_pair = args.jepa_weight > 0 and args.jepa_objective == "pair"
    cheap = {"jepa_source_view": "prefix", "jepa_target": "stop_gradient"}
    if is_pair and any(getattr(args, key) != value for key, value in cheap.items()):
        yield cheap, launch, False
    if not recipe.model.use_peft:
        yield {"use_peft": True, "lora_target_modules": "all-linear", "dtype": "bfloat16"}, launch, False


def _try(
    before: Workload, flops_before: float, candidate: tuple[dict[str, Any], Launch, bool], gpu: GPU, num_devices: int
) -> Change:
    settings, launch, keeps_result = candidate
    recipe = build_recipe(before.recipe.path, before.recipe.settings | settings)
    has_other_views = any(key.startswith("jepa_") for key in settings)
    drawn = draw_workload(recipe, launch, True, None if has_other_views else before.prepared)
    peak = sum(peak_bytes(drawn, drawn.longest_rows(), launch, num_devices).values())
    return Change(settings, launch, keeps_result, peak, _row_flops(drawn) / flops_before, peak <= room_bytes(gpu))


def _row_flops(drawn: Workload) -> float:
    return drawn.flops() / drawn.recipe.training.per_device_train_batch_size
