"""The latent dynamics g(h, x): from a hidden state and the next token's embedding to the next hidden state.

Legend: N rows, S positions, D the model's width, W the width of the hidden layers.
"""

import inspect
import itertools

import torch
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, PreTrainedConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

_LAYER_ARGUMENTS = inspect.signature(LlamaDecoderLayer.forward).parameters
CACHE_ARGUMENT = "cache" if "cache" in _LAYER_ARGUMENTS else "past_key_values"
"""What transformers 5.24 and 5.23 call a layer's cache."""


class LatentMLP(nn.Module):
    """`g(h, x) = h + MLP(LN[h ; e(x)])`, GELU between linear layers (NextLat, arXiv 2511.05963).

    The last layer is zero at the start, so that g begins as the identity on h.

    Args:
        width: The model's, D.
        hidden_width: W.
        depth: Linear layers, at least 2.
    """

    def __init__(self, width: int, hidden_width: int, depth: int):
        super().__init__()
        widths = [2 * width, *[hidden_width] * (depth - 1), width]
        layers: list[nn.Module] = [nn.LayerNorm(2 * width)]
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            layers += [nn.GELU()] if number > 0 else []
            layers.append(nn.Linear(inputs, outputs))
        nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(layers[-1].bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden_NSD: Tensor, embedding_NSD: Tensor) -> Tensor:
        """The next hidden states, in the type of those given."""
        inputs_NSE = torch.cat([hidden_NSD, embedding_NSD.to(hidden_NSD.dtype)], dim=-1)
        weight = next(self.layers[1].parameters())
        return hidden_NSD + self.layers(as_weights(inputs_NSE, weight)).to(hidden_NSD.dtype)


class LatentDecoderLayer(nn.Module):
    """`g = decoder layer(fc([e(x) ; h]))`, causal over the positions: the drafter of EAGLE (arXiv 2401.15077).

    A Llama layer without its first norm, whatever the model, since this is the form that servers load.

    Args:
        config: The text config of the model.
        depth: Decoder layers.
    """

    def __init__(self, config: PreTrainedConfig, depth: int):
        super().__init__()
        self.config = llama_layer_config(config, depth)
        width = self.config.hidden_size
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.layers = nn.ModuleList(LlamaDecoderLayer(self.config, index) for index in range(depth))
        self.layers[0].input_layernorm = nn.Identity()
        self.rotary = LlamaRotaryEmbedding(self.config)

    def forward(self, hidden_NSD: Tensor, embedding_NSD: Tensor, cache: DynamicCache | None = None) -> Tensor:
        """The next hidden states; position s attends to the positions 0 .. s, and to those that the cache holds.

        Args:
            cache: Keys and values of the positions before; those of these positions are added.
        """
        inputs_NSE = torch.cat([embedding_NSD.to(hidden_NSD.dtype), hidden_NSD], dim=-1)
        state_NSD = self.fc(as_weights(inputs_NSE, self.fc.weight))
        start, length, device = 0 if cache is None else cache.get_seq_length(), state_NSD.shape[1], state_NSD.device
        position_ids = torch.arange(start, start + length, device=device)[None]
        # after others: position start + s sees the keys 0 .. start + s
        is_seen_SK = None if start == 0 else torch.arange(start + length, device=device) <= position_ids.T
        arguments = {
            "attention_mask": None if is_seen_SK is None else is_seen_SK[None, None],
            "position_ids": position_ids,
            "position_embeddings": self.rotary(state_NSD, position_ids),
            CACHE_ARGUMENT: cache,
        }
        for layer in self.layers:
            state_NSD = layer(state_NSD, **arguments)
        return state_NSD.to(hidden_NSD.dtype)


def llama_layer_config(config: PreTrainedConfig, depth: int) -> LlamaConfig:
    """The config of Llama layers with the width and the heads of a model.

    Raises:
        ValueError: The model has no attention heads.
    """
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        raise ValueError(
            f"`latent_predictor: decoder_layer` has the attention heads of the model, and {type(config).__name__} "
            "names none. Set `latent_predictor: mlp`."
        )
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=head_dim,
        max_position_embeddings=getattr(config, "max_position_embeddings", LlamaConfig.max_position_embeddings),
        attn_implementation="sdpa",  # type: ignore[call-arg]  # of every config, by keyword
    )


def as_weights(inputs: Tensor, weight: Tensor) -> Tensor:
    """Inputs in the type of the weights, unless autocast chooses it."""
    return inputs if torch.is_autocast_enabled(inputs.device.type) else inputs.to(weight.dtype)
