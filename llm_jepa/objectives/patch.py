"""`patch`: a span should have the direction of the rest (arXiv 2602.22617, the form of its reference code)."""

from torch import Tensor

from llm_jepa.objectives.losses import MIN_PATCH_TOKENS, content_tokens, patch_loss, sample_patch
from llm_jepa.objectives.span_objective import SpanObjective
from llm_jepa.settings.objectives import sampler_of


class PatchObjective(SpanObjective):
    """Predicts the direction of a span of the content from that of the rest."""

    def span_loss(self, hidden_NSD: Tensor, draw_NC: Tensor, source_span_N2: Tensor, target_span_N2: Tensor) -> Tensor:
        """`patch_loss` on one span; 0 for a row with too few tokens."""
        tokens_N = content_tokens(source_span_N2, target_span_N2)
        patch_N2 = sample_patch(draw_NC, tokens_N, sampler_of("patch", self.args.span_sampler))
        return patch_loss(hidden_NSD, source_span_N2, target_span_N2, patch_N2) * (tokens_N >= MIN_PATCH_TOKENS)
