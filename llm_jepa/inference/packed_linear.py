"""Linear layers packed for the kernels of a CPU, so that a forward of a few tokens costs little more than one of one.

PyTorch's linear layer packs its weights anew in each call with more than one token. oneDNN packs them once. For a
single token the layer as it is can be the faster one, so packing is for drafted tokens.
Legend: I inputs, O outputs of a layer.
"""

import copy

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel


def _packed_dtypes() -> tuple[torch.dtype, ...]:
    """Those that oneDNN packs on this CPU: bfloat16 wants AVX-512 or AVX-NE-CONVERT."""
    has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if has_bfloat16 else (torch.float32,)


class PackedLinear(nn.Module):
    """`x W^T + b` without gradients, for a layer that stays where it is.

    Args:
        linear: The layer, on a CPU.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias_O = None if linear.bias is None else linear.bias.detach()

    @property
    def weight(self) -> Tensor:
        """The weights as `nn.Linear` has them, weight_OI: a copy."""
        return self._packed.to_dense()

    @property
    def bias(self) -> Tensor | None:
        """The bias as `nn.Linear` has it."""
        return self._bias_O

    def forward(self, inputs: Tensor) -> Tensor:
        """The outputs, in the type of the weights."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self._bias_O, "none", [], "")


def packed_copy(model: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """A packed model beside the given one, which stays as it is; both share all other weights."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    pack_linear_layers(copied)
    return copied


def pack_linear_layers(model: PreTrainedModel | PeftModel) -> None:
    """Replace a model's linear layers on a CPU by packed ones. The model computes, and can no longer be trained.

    Quantised layers, layers of other classes and of types that the CPU does not pack stay as they are.
    """
    if not torch.backends.mkldnn.is_available():
        return
    packed_dtypes = _packed_dtypes()
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleDict):  # PEFT's small matrices, whose `weight` it reads in each forward
            continue
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype in packed_dtypes:
                setattr(module, name, PackedLinear(layer))
