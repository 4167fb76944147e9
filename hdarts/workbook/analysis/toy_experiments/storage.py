"""How much memory a function's tensors take: counted operator by operator, the same number on every run."""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(function: Callable[[], object]) -> int:
    """Return the most bytes of tensors that were alive at once in `function()`, beyond those before it.

    Counted is the storage of what PyTorch's operators return, forward and backward, until it is freed: vectors kept,
    tensors saved for a backward pass, gradients, passing results; a view counts once, with what it views. Not counted:
    tensors that were there before (w, alpha, data), what an operator allocates and frees within itself, Python's
    objects, and what the allocator rounds up or holds back.
    """
    with _Storages() as storages:
        function()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Follows the storages that operators return, by weak references: what is freed drops out by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self.alive.setdefault(storage, 0)  # met as an argument first: it was there before
        returned = func(*args, **kwargs)
        for storage in _storages(returned):
            self.alive.setdefault(storage, storage.nbytes())
        self.peak = max(self.peak, sum(self.alive.values()))
        return returned


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
