"""What `llm-jepa train-decoder` takes beside the run."""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TextDecoderOptions:
    """The decoder and its training.

    Raises:
        ValueError: A value is out of range.
    """

    language_model: str | None = field(
        default=None, metadata={"help": "Causal LM whose last layers write; that of the run without it."}
    )
    num_layers: int = field(default=2, metadata={"help": "How many of its last layers."})
    num_prefix_vectors: int = field(
        default=4, metadata={"help": "Vectors that an embedding becomes, in the place of a prompt."}
    )
    num_steps: int = field(default=300, metadata={"help": "Steps of training."})
    batch_size: int = field(default=32, metadata={"help": "Answers in a step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "The highest; it ends at 0."})
    noise: float = field(
        default=1.0,
        metadata={"help": "Length of the Gaussian noise that training adds to an embedding of length 1."},
    )
    seed: int = field(default=0, metadata={"help": "Of noise, order and new weights."})

    def __post_init__(self):
        for name in ("num_layers", "num_prefix_vectors", "num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; it must be at least 1.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"`learning_rate` is {self.learning_rate}; it must be a finite number above 0.")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"`noise` is {self.noise}; it must be a finite number of at least 0.")
