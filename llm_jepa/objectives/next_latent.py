"""`next_latent`: a small network foretells the model's own next hidden states (NextLat, arXiv 2511.05963).

    h^_(t+1) = g(h_t, x_(t+1)),  h^_(t+2) = g(h^_(t+1), x_(t+2)), ...            `rollout_steps` of them
    loss = smooth_l1_weight * mean SmoothL1(sg h_(t+i), h^_(t+i))
           + kl_weight * mean KL(softmax(W sg h_(t+i)) || softmax(W h^_(t+i)))

h is the hidden state after the final norm, W the LM head, which is frozen in the KL. SmoothL1 reads every position,
the KL those whose next token has a label. No pairs and no token more than SFT.
Legend: N rows, S tokens of a row, D the model's width, V tokens of the vocabulary.
"""

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from llm_jepa.compute.flops import ModelSize, StepCounts
from llm_jepa.config import JEPAConfig
from llm_jepa.objectives.base import LossInputs, Objective, ObjectiveLoss, refuse_beyond_rows
from llm_jepa.objectives.conversations import Conversations
from llm_jepa.objectives.latent_dynamics import LatentDecoderLayer, LatentMLP
from llm_jepa.objectives.lm_head import whole_lm_head
from llm_jepa.objectives.losses import kl_rows, roll_out, smooth_l1_rows
from llm_jepa.objectives.own_parameters import drawn_by
from llm_jepa.settings.objectives import RowNeeds

DEFAULT_DEPTH = {"mlp": 3, "decoder_layer": 1}
DEFAULT_WIDTH = 1.0


class NextLatentObjective(Objective):
    """Trains the latent dynamics g, and the model to have states that g can foretell."""

    row_needs: ClassVar[RowNeeds] = "conversation"
    computes_within_forward = True

    def __init__(self, args: JEPAConfig):
        super().__init__(args)
        self.is_detached = args.detach_backbone

    def check(self, device_type: str, train_dataset: Any, eval_dataset: Any) -> None:
        """Refuse more steps than the longest row has."""
        refuse_beyond_rows("rollout_steps", self.args.rollout_steps, 0, train_dataset)

    def new_predictor(self, model: PreTrainedModel) -> nn.Module:
        """g, drawn by the seed."""
        return drawn_by(self.args.seed, model, lambda: new_dynamics(self.args, model.config.get_text_config()))

    def forward_terms(
        self, model: PreTrainedModel, predictor: nn.Module | None, conversations: Conversations
    ) -> dict[str, Tensor]:
        """SmoothL1 and KL of each row."""
        assert predictor is not None
        args, hidden_NSD, embedding_NSD = self.args, conversations.hidden_NSD, conversations.embedding_NSD
        if args.detach_backbone:
            hidden_NSD, embedding_NSD = hidden_NSD.detach(), embedding_NSD.detach()
        predicted = roll_out(predictor, hidden_NSD, embedding_NSD, args.rollout_steps)
        terms = {"smooth_l1_N": smooth_l1_rows(predicted, hidden_NSD, conversations.is_token_NS)}
        if args.kl_weight > 0:
            labels = conversations.label_row_M, conversations.label_position_M
            with whole_lm_head(model) as head:
                terms["kl_N"] = kl_rows(predicted, hidden_NSD, *labels, head)
        return terms

    def loss(self, inputs: LossInputs) -> ObjectiveLoss:
        """The weighted sum of both terms; logs each."""
        terms = inputs.outputs.terms
        assert terms is not None
        smooth_l1_N = terms["smooth_l1_N"]
        sums = {"jepa_smooth_l1": smooth_l1_N.detach().sum()}
        loss_N = self.args.smooth_l1_weight * smooth_l1_N
        if "kl_N" in terms:
            sums["jepa_kl"] = terms["kl_N"].detach().sum()
            loss_N = loss_N + self.args.kl_weight * terms["kl_N"]
        return ObjectiveLoss(loss_N, sums)

    def extra_flops(self, counts: StepCounts, size: ModelSize) -> float:
        """6 per parameter of g, token and step; of the KL 2 V D for the target and 4 V D for each step."""
        args = self.args
        per_token = 6 * args.rollout_steps * dynamics_parameters(args, size.width)
        per_label = (2 + 4 * args.rollout_steps) * size.head_parameters if args.kl_weight > 0 else 0
        return counts.conversation_tokens * per_token + counts.labelled_tokens * per_label


def new_dynamics(args: JEPAConfig, config: PreTrainedConfig) -> nn.Module:
    """g for a model of this text config."""
    depth, width = network_depth(args), config.hidden_size
    if args.latent_predictor == "decoder_layer":
        return LatentDecoderLayer(config, depth)
    return LatentMLP(width, hidden_width(args, width), depth)


def hidden_width(args: JEPAConfig, width: int) -> int:
    """The width of the MLP's hidden layers."""
    return max(1, round((args.latent_width or DEFAULT_WIDTH) * width))


def network_depth(args: JEPAConfig) -> int:
    """The linear layers of the MLP, or the decoder layers."""
    return args.latent_depth or DEFAULT_DEPTH[args.latent_predictor]


def dynamics_parameters(args: JEPAConfig, width: int) -> float:
    """The parameters of g's matrices; of decoder layers about 12 D^2 each and 2 D^2 of `fc`."""
    depth = network_depth(args)
    if args.latent_predictor == "decoder_layer":
        return (12 * depth + 2) * width**2
    hidden = hidden_width(args, width)
    return 2 * width * hidden + (depth - 2) * hidden**2 + hidden * width
