"""Peak memory of the tensors of a function, counted operator by operator: the same number in every run."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(function: Callable[[], object]) -> int:
    """Return the peak of the bytes of tensors that `function()` creates.

    Counts the storage of all operators' results, forward and backward, until it is freed: vectors, tensors saved for a
    backward pass, gradients, temporary results; a view and its base count once. Does not count tensors that existed
    before (w, alpha, data), memory within an operator, Python objects, and the allocator's rounding and cache.
    """
    with _Storages() as storages:
        function()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Tracks the storages that operators return by weak references, so that freed ones drop out."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self.alive.setdefault(storage, 0)  # first seen as an argument: existed before
        returned = func(*args, **kwargs)
        for storage in _storages(returned):
            self.alive.setdefault(storage, storage.nbytes())
        self.peak = max(self.peak, sum(self.alive.values()))
        return returned


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
