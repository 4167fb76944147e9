"""The best rates of the machine, and the share of them that a weight step reaches."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import seconds
from benchmarks.setting import Setting

SIDE, MEBIBYTES, ROUNDS = 2048, 256, 7  # of the matrices; of the copied array; the best of this many


def rates(device: str) -> dict[str, float]:
    """Return the rate of a float32 matrix product (GFLOP/s) and of a copy beyond the caches (GiB/s, read and write)."""
    a, b = torch.randn(2, SIDE, SIDE, device=device)
    source = torch.randn(MEBIBYTES * 2**18, device=device)
    target = torch.empty_like(source)
    product = min(seconds(lambda: a @ b) for _ in range(ROUNDS))
    copy = min(seconds(lambda: target.copy_(source)) for _ in range(ROUNDS))
    return {"product_GFLOP_s": 2 * SIDE**3 / product / 1e9, "copy_GiB_s": 2 * MEBIBYTES / 1024 / copy}


def work(setting: Setting) -> float:
    """Return the work of a weight step in GFLOP: convolutions and matrix products, counted in the plain version.

    The backward pass of each does the work of two forward passes (PyTorch's own count treats grouped convolutions
    as dense).
    """
    alpha, (images, _), _ = setting.data()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        setting.plain()(images, alpha.softmax(-1))
    return 3 * counter.get_total_flops() / 1e9


def distance(setting: Setting, ours: float) -> dict[str, float]:
    """Return the machine's rates, the work of a weight step, and our share of the rate of a matrix product."""
    found = rates(setting.device)
    gflop = work(setting)
    return {
        **found,
        "step_GFLOP": gflop,
        "ours_GFLOP_s": gflop / ours,
        "share": gflop / ours / found["product_GFLOP_s"],
    }
