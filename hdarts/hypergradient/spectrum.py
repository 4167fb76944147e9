"""Extreme eigenvalues of a Hessian that is never built, by Lanczos iterations (scipy's ARPACK).

Each iteration costs one Hessian-vector product. Autograd's second derivative leaves out the kinks of ReLU and max
pooling, and so do these eigenvalues.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import scipy  # its parts are imported where they are used: each takes a while
import torch
from torch import Tensor

from hdarts.runs.randomness import generator

TOLERANCE = 0.1  # relative; Ritz values are closer than their bound: the ends are accurate to about 2 %
BASIS = 8  # Lanczos vectors kept; each is as long as the variables


def eigenvalues(
    product: Callable[[Tensor], Tensor], at: Tensor, count: int, which: Literal["LM", "BE"], seed: int = 0
) -> list[float]:
    """Return `count` eigenvalues of q -> H q in ascending order, accurate to a few per cent; q is shaped like `at`.

    `which`: LM, those of largest magnitude; BE, half of them from each end. The start vector is a function of `seed`;
    `at` must have more than `count` entries.
    """
    dtype = np.dtype(str(at.dtype).removeprefix("torch."))

    def of(q: np.ndarray) -> np.ndarray:
        return product(torch.from_numpy(q.reshape(-1).copy()).to(at).view(at.shape)).flatten().cpu().numpy()

    n = at.numel()
    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=of, dtype=dtype)  # type: ignore[call-arg]
    start = torch.randn(n, generator=generator(seed, "lanczos")).numpy().astype(dtype)
    options = {"ncv": min(BASIS, n), "tol": TOLERANCE, "v0": start, "return_eigenvectors": False}
    return sorted(map(float, scipy.sparse.linalg.eigsh(operator, k=count, which=which, **options)))  # type: ignore[arg-type]
