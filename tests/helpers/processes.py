"""Functions in several processes at once, which communicate over gloo."""

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from hdarts.runs.processes import Processes


def part(function: Callable[..., Any], rank: int, world: int, store: Path, runs: str, *arguments: Any) -> Any:
    """Join the other processes, call the function, and leave."""
    os.environ |= {"HDARTS_RUNS": runs, "HDARTS_PROGRESS": "none"}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        return function(Processes(rank, world), *arguments)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes that have imported PyTorch already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "hdarts.search", "hdarts.train"])
    with ProcessPoolExecutor(4, mp_context=context) as executor:
        yield executor


@pytest.fixture
def together(pool: ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Call a function in several processes at once; return their results."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    stores = itertools.count()

    def call(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        store = tmp_path / f"store-{next(stores)}"
        common = (world, store, str(tmp_path / "runs"), *arguments)
        futures = [pool.submit(part, function, rank, *common) for rank in range(world)]
        return [future.result(600) for future in futures]

    return call
