"""A small autoencoder of targets: tokens -> K codes of C numbers -> the same tokens. Its codes are what is predicted.

Semformer (arXiv 2409.11143) encodes with the language model itself and decodes with six of its layers. Here one layer
of its own encodes and one decodes, so that codes need no forward of the model and do not move with it.

Legend: N rows, T tokens of the longest target, K codes, C numbers of a code, E width, V tokens of the vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_jepa.objectives.losses import LMHead, reconstruction_rows

CODE_WIDTH = 32
WIDTH = 64
_HEADS = 4


class AnswerAutoencoder(nn.Module):
    """Encodes a target's tokens through a bottleneck, and decodes them from the codes and the tokens before.

    K learned queries before the tokens become the codes; the codes before the tokens start the decoder. A code has
    mean 0 and variance 1 over its C numbers, so that no scale makes it easier to predict. If codes were alike for all
    targets, the decoder could not tell how a target begins.

    Args:
        vocabulary_tokens: V. The table of V x E is nearly all of its parameters.
        num_codes: K.
        seed: Of the initial values; the global random state is not touched.
    """

    def __init__(
        self, vocabulary_tokens: int, num_codes: int, seed: int, code_width: int = CODE_WIDTH, width: int = WIDTH
    ):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.table_VE = nn.Parameter(torch.randn(vocabulary_tokens, width) / math.sqrt(width))
            self.query_KE = nn.Parameter(torch.randn(num_codes, width))
            self.encoder, self.decoder = _layer(width), _layer(width)
            self.to_code, self.from_code = nn.Linear(width, code_width), nn.Linear(code_width, width)
            self.norm = nn.LayerNorm(width)

    def forward(self, token_NT: Tensor, is_token_NT: Tensor) -> tuple[Tensor, Tensor]:
        """code_NKC, and the loss of the reconstruction: loss_N.

        Args:
            is_token_NT: False for padding, which is at the end.
        """
        code_NKC = self.encode(token_NT, is_token_NT)
        decoded_NTE = self.decode(code_NKC, token_NT)
        return code_NKC, reconstruction_rows(decoded_NTE, token_NT, is_token_NT, LMHead(self.table_VE))

    def encode(self, token_NT: Tensor, is_token_NT: Tensor) -> Tensor:
        """code_NKC, in float32 at least."""
        num_codes = len(self.query_KE)
        query_NKE = self.query_KE.expand(len(token_NT), -1, -1)
        is_padding_NL = F.pad(~is_token_NT, (num_codes, 0), value=False)
        state_NLE = self.encoder(self._sequence(query_NKE, token_NT), src_key_padding_mask=is_padding_NL)
        code_NKC = self.to_code(state_NLE[:, :num_codes])
        return F.layer_norm(code_NKC.to(torch.promote_types(code_NKC.dtype, torch.float32)), code_NKC.shape[-1:])

    def decode(self, code_NKC: Tensor, token_NT: Tensor) -> Tensor:
        """The states that predict each token from the codes and the tokens before it: decoded_NTE.

        Example, K = 2: of the sequence [code, code, x_0, x_1], the last code predicts x_0, and x_0 predicts x_1.
        """
        sequence_NLE = self._sequence(self.from_code(code_NKC.to(self.from_code.weight.dtype)), token_NT)
        mask_LL = nn.Transformer.generate_square_subsequent_mask(sequence_NLE.shape[1], device=sequence_NLE.device)
        state_NLE = self.decoder(sequence_NLE, src_mask=mask_LL, is_causal=True)
        return self.norm(state_NLE[:, code_NKC.shape[1] - 1 : -1])

    def _sequence(self, first_NKE: Tensor, token_NT: Tensor) -> Tensor:
        """Vectors before the embedded tokens, with their positions: sequence_NLE."""
        embedding_NTE = F.embedding(token_NT, self.table_VE) * math.sqrt(self.table_VE.shape[1])
        sequence_NLE = torch.cat([first_NKE, embedding_NTE.to(first_NKE.dtype)], dim=1)
        _, length, width = sequence_NLE.shape
        return sequence_NLE + _sinusoids(length, width, sequence_NLE.device).to(sequence_NLE.dtype)


def _layer(width: int) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width, _HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def _sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Sines, then cosines of the positions at E / 2 frequencies (Vaswani et al. 2017): position_LE."""
    frequency = torch.exp(torch.arange(width // 2, device=device) * (-math.log(10_000) / (width // 2)))
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
