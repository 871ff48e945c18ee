"""Models cut down to some of their decoder layers."""

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedConfig

LAYERS = "layers."


def last_layers(total: int, num_layers: int) -> list[int]:
    """The last layers. Example: the last 2 of 5 are 3, 4."""
    return list(range(total - num_layers, total))


def spread_layers(total: int, num_layers: int) -> list[int]:
    """Layers at even distances, the first and the last among them. Example: 4 of 10 are 0, 3, 6, 9; 1 is the first."""
    steps = max(1, num_layers - 1)
    return [round(place * (total - 1) / steps) for place in range(num_layers)]


def config_of_layers(config: PreTrainedConfig, layers: Sequence[int]) -> PreTrainedConfig:
    """A copy of a model's configuration with these layers alone; a list with a value for each layer is cut too."""
    config = copy.deepcopy(config)
    total = config.num_hidden_layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == total:  # as `layer_types`
            setattr(config, name, [value[layer] for layer in layers])
    config.num_hidden_layers = len(layers)
    return config


def weights_of_layers(state: Mapping[str, Tensor], layers: Sequence[int]) -> dict[str, Tensor]:
    """The weights of these layers, numbered from 0, and those of no layer.

    Example: with the layers 3 and 6, `model.layers.6.mlp.weight` becomes `model.layers.1.mlp.weight`.
    """
    places = {layer: place for place, layer in enumerate(layers)}
    kept = {}
    for name, value in state.items():
        before, found, after = name.rpartition(LAYERS) if name.startswith(LAYERS) else name.partition(f".{LAYERS}")
        number, _, rest = after.partition(".")
        if not found or not number.isdigit():
            kept[name] = value
        elif int(number) in places:
            kept[f"{before}{found}{places[int(number)]}.{rest}"] = value
    return kept
