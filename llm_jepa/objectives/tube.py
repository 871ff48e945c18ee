"""`tube`: three content tokens should lie on a line (Semantic Tube Prediction, arXiv 2602.22617, the paper's form)."""

from torch import Tensor

from llm_jepa.objectives.losses import MIN_TUBE_TOKENS, content_tokens, sample_tube, tube_loss
from llm_jepa.objectives.span_objective import SpanObjective
from llm_jepa.settings.objectives import sampler_of


class TubeObjective(SpanObjective):
    """Predicts the direction of a span from that of its beginning."""

    def span_loss(self, hidden_NSD: Tensor, draw_NC: Tensor, source_span_N2: Tensor, target_span_N2: Tensor) -> Tensor:
        """`tube_loss` at three tokens; 0 for a row with fewer."""
        tokens_N = content_tokens(source_span_N2, target_span_N2)
        tube_N3 = sample_tube(draw_NC, tokens_N, sampler_of("tube", self.args.span_sampler))
        return tube_loss(hidden_NSD, source_span_N2, target_span_N2, tube_N3) * (tokens_N >= MIN_TUBE_TOKENS)
