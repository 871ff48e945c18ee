"""Tracks the live bytes of tensors while code runs, and their kinds at the peak."""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Tracks every storage created in the context until it is freed. Fake tensors count as real ones.

    Args:
        kind_of: Gives the kind under which the bytes of a new tensor are counted.
        held: Existing tensors, which are not counted.
        parameters: Their gradients count as kind `gradients`, multiplied by `gradient_share`.
        gradient_share: Share of a gradient that one device keeps; 1 unless gradients are partitioned.

    Attributes:
        peak: Kind -> bytes when their sum was largest.
    """

    def __init__(
        self,
        kind_of: Callable[[Tensor], str],
        held: Iterable[Tensor],
        parameters: Iterable[Tensor],
        gradient_share: float = 1.0,
    ):
        super().__init__()
        self.peak: dict[str, float] = {}
        self._kind_of = kind_of
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._gradient_share = gradient_share
        self._held = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in held)}
        self._kinds: dict[int, tuple[str, float]] = {}  # storage's identity -> its kind and bytes, while it lives
        self._live: defaultdict[str, float] = defaultdict(float)
        self._hooks: list[Any] = []

    def __enter__(self) -> "LiveBytes":
        self._hooks = [one.register_post_accumulate_grad_hook(self._take_gradient) for one in self._parameters]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_iter(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._kinds or key in self._held:
            return
        self._count(key, self._kind_of(tensor), storage.nbytes())
        weakref.finalize(storage, self._let_go, key)
        if sum(self._live.values()) > sum(self.peak.values()):
            self.peak = dict(self._live)

    def _take_gradient(self, parameter: Tensor) -> None:
        """Count the accumulated gradient of a parameter as kind `gradients`."""
        assert parameter.grad is not None
        storage = parameter.grad.untyped_storage()
        if id(storage) in self._kinds:
            self._let_go(id(storage))
            self._count(id(storage), "gradients", storage.nbytes() * self._gradient_share)

    def _count(self, key: int, kind: str, num_bytes: float) -> None:
        self._kinds[key] = kind, num_bytes
        self._live[kind] += num_bytes

    def _let_go(self, key: int) -> None:
        kind, num_bytes = self._kinds.pop(key)
        self._live[kind] -= num_bytes


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages of tensors; a shared storage counts once."""
    storages = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storage.nbytes() for storage in storages.values())
