"""EfficientNet-Lite, a convolutional encoder that runs on a laptop: EfficientNet (Tan and Le 2019, arXiv 1905.11946)
with ReLU6 and without squeeze-and-excitation. `AutoModel` loads it once this module is imported.

Legend: N pictures, D channels, H and W rows and columns of cells.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithNoAttention

LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_STRIDE = 2


class EfficientNetLiteConfig(PreTrainedConfig):
    """The configuration of an `EfficientNetLiteModel`.

    Args:
        stem_width: The channels of the first convolution.
        stages: Blocks, kernel size, stride of the first block, expansion and channels of each stage.
        norm_eps: Added to the variance in batch normalisation.
    """

    model_type = "efficientnet_lite"

    def __init__(
        self,
        stem_width: int = 32,
        stages: Sequence[Sequence[int]] = LITE0_STAGES,
        norm_eps: float = 1e-3,
        **kwargs: Any,
    ):
        self.stem_width = stem_width
        self.stages = [list(stage) for stage in stages]
        self.hidden_size = self.stages[-1][-1]
        self.norm_eps = norm_eps
        super().__init__(**kwargs)


class ConvNorm(nn.Module):
    """A convolution without bias and its batch normalisation.

    Padding is TensorFlow's "same": with stride 2 and an even side, the odd pixel of padding comes last.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, eps: float):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps)

    def forward(self, x_NDHW: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        padding = []
        for side in (x_NDHW.shape[-1], x_NDHW.shape[-2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return self.norm(self.conv(F.pad(x_NDHW, padding)))


class InvertedResidual(nn.Module):
    """Expands the channels, convolves each, projects them; adds the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, eps: float):
        super().__init__()
        width = inputs * expansion
        self.expand = ConvNorm(inputs, width, 1, 1, 1, eps) if expansion > 1 else None
        self.depthwise = ConvNorm(width, width, kernel, stride, width, eps)
        self.project = ConvNorm(width, outputs, 1, 1, 1, eps)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x_NDHW: Tensor) -> Tensor:
        hidden = x_NDHW if self.expand is None else F.relu6(self.expand(x_NDHW))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        return x_NDHW + hidden if self.adds_input else hidden


class EfficientNetLiteModel(PreTrainedModel):
    """Pictures to a grid of features, without a pooled output: a cell for every 32 pixels a side of Lite0."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    base_model_prefix = ""

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = ConvNorm(3, config.stem_width, 3, STEM_STRIDE, 1, config.norm_eps)
        blocks, inputs = [], config.stem_width
        for repeats, kernel, stride, expansion, outputs in config.stages:
            for i in range(repeats):
                first_stride = stride if i == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, kernel, first_stride, expansion, config.norm_eps))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithNoAttention:
        """The grid of the last stage: last_hidden_state_NDHW."""
        hidden = F.relu6(self.stem(pixel_values))
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutputWithNoAttention(last_hidden_state=hidden)


AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel)
