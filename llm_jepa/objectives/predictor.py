"""The learned [PRED] vectors: k inputs of the model's width that replace token embeddings.

They are not in the vocabulary, so no embedding is resized and none of them can be generated.

Legend: K predictor tokens, D the model's width, R rows, L tokens of a row.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_jepa.objectives.own_parameters import whole

_SAMPLED_TOKENS = 1024


class PredictorTokens(nn.Module):
    """Puts k learned vectors in place of the token embeddings at the predictor tokens' positions.

    Args:
        vectors_KD: Initial values; kept in float32.
    """

    def __init__(self, vectors_KD: Tensor):
        super().__init__()
        self.num_tokens = len(vectors_KD)
        self.vectors_KD = nn.Parameter(vectors_KD.float())

    def forward(self, embeddings_RLD: Tensor, slots_RL: Tensor) -> Tensor:
        """Replace the embedding where the slot is j > 0 by the j-th vector; keep the others."""
        vectors_KD = self.vectors_KD.to(embeddings_RLD.dtype)
        chosen_RLD = vectors_KD[(slots_RL - 1).clamp(min=0)]
        return torch.where((slots_RL > 0)[..., None], chosen_RLD, embeddings_RLD)


def new_predictor(model: PreTrainedModel, num_tokens: int, seed: int) -> PredictorTokens:
    """Create distinct vectors with the distribution of the model's token embeddings.

    Each dimension is normal with the mean and standard deviation of a sample of token embeddings. A generator of its
    own leaves the global random state unchanged, so that adapter and data order equal those of the LM-only arm.
    """
    embed = model.get_input_embeddings()
    assert isinstance(embed, nn.Module)
    vocabulary_tokens = model.config.get_text_config().vocab_size
    sample = torch.linspace(0, vocabulary_tokens - 1, min(_SAMPLED_TOKENS, vocabulary_tokens)).long()
    device = next(embed.parameters()).device
    with torch.no_grad(), whole(embed):
        embeddings_SD = embed(sample.to(device)).float().cpu()
    noise_KD = torch.randn(num_tokens, embeddings_SD.shape[1], generator=torch.Generator().manual_seed(seed))
    vectors_KD = embeddings_SD.mean(0) + embeddings_SD.std(0) * noise_KD
    return PredictorTokens(vectors_KD.to(device))
