"""Chooses the layout for a model by what its attention supports exactly."""

import logging

from transformers import PreTrainedModel
from transformers.utils.generic import is_flash_attention_requested

from llm_jepa.layouts import FlatLayout, Layout, PackedLayout, RowsLayout
from llm_jepa.layouts.mask_probe import probe_flat_form, probe_mask_form
from llm_jepa.layouts.masks import MaskForm

logger = logging.getLogger(__name__)


def choose_layout(
    model: PreTrainedModel, wanted: str, pad_token_id: int, pad_to_multiple_of: int | None = None
) -> tuple[Layout, MaskForm, str]:
    """The layout for a model, its mask form, and the reason. `auto` falls back to `rows` and logs a warning.

    Raises:
        ValueError: `wanted` is `packed` or `flat`, and the model does not support it exactly.
    """
    rows = RowsLayout(pad_token_id, pad_to_multiple_of), MaskForm("padding")
    if wanted == "rows":
        return *rows, "as requested"
    is_flat = wanted == "flat" or (wanted == "auto" and is_flash_attention_requested(model.config))
    probe = probe_flat_form(model) if is_flat else probe_mask_form(model)
    if probe.form is not None:
        layout: Layout
        if is_flat:
            layout = FlatLayout(pad_token_id, pad_to_multiple_of)
        else:
            # A block mask skips masked blocks, so one long row costs no more than two short ones.
            is_dense = probe.form.values != "block"
            break_even_tokens = 6 * model.config.get_text_config().hidden_size if is_dense else None
            layout = PackedLayout(pad_token_id, pad_to_multiple_of, break_even_tokens)
        logger.info("Layout %s: %s.", layout.name, probe.reason)
        return layout, probe.form, probe.reason
    if wanted != "auto":
        raise ValueError(f"`jepa_layout: {wanted}` is not possible: {probe.reason}. Use `auto` or `rows`.")
    logger.warning("Layout rows computes every view as a row of its own: %s.", probe.reason)
    return *rows, probe.reason
