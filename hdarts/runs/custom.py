"""User-defined objects of a search or a training: errors that name the object, before the first step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hdarts.errors import OutOfMemory, ParameterError


def called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a user-defined function; its errors name the object."""
    try:
        return function(*arguments)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, (ParameterError, OutOfMemory, torch.OutOfMemoryError)):
            raise
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ParameterError(f"{name}: does not fit: {what}") from error


def require(name: str, found: Any, wanted: Any) -> None:
    """Raise ParameterError unless `found` equals `wanted`; if `found` is a tensor, its shape is compared."""
    found = tuple(found.shape) if isinstance(found, Tensor) else found
    if found != wanted:
        raise ParameterError(f"{name} is {found} and has to be {wanted}")
