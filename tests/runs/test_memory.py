"""Out-of-memory errors are recognised, and the message names a batch that fits."""

import subprocess
import sys

import pytest
import torch
from helpers.small_runs import environment

from hdarts.errors import OutOfMemory
from hdarts.runs.memory import naming_a_batch_that_fits

FULL = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(FULL), torch.OutOfMemoryError("CUDA out of memory.")])
@pytest.mark.parametrize(
    ("limit", "advice"), [(40, "batch_size 32 fits"), (2, "batch_size 2 fits"), (1, "no smaller batch")]
)
def test_the_largest_half_that_fits_is_named(error: Exception, limit: int, advice: str) -> None:
    def attempt(size: int) -> None:
        if size > limit:
            raise error

    with (
        pytest.raises(OutOfMemory, match=rf"out of memory at batch_size 64: {advice}"),
        naming_a_batch_that_fits(64, attempt),
    ):
        attempt(64)


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes"), naming_a_batch_that_fits(64, lambda size: None):
        raise RuntimeError("shapes do not fit")


LIMITED = """
import resource, psutil, sys, warnings
from helpers.small_runs import {kind}, computed
from hdarts.errors import OutOfMemory
kind = {{**{kind}, "channels": 8, "batch_size": 1024, "limit": 4096, "image_size": 16}}
list(computed({{**{kind}, "epochs": 1, "run": "first"}}))  # libraries allocate what they need
room = psutil.Process().memory_info().vms + {megabytes} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    list(computed(kind))
except OutOfMemory as error:
    print(error)
"""


@pytest.mark.parametrize(("kind", "megabytes"), [("SEARCH", 500), ("EVALUATION", 300)])
def test_a_loop_out_of_memory_reports_it_with_its_batch_size(tmp_path, kind: str, megabytes: int) -> None:
    program = LIMITED.format(kind=kind, megabytes=megabytes)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    # which batch fits depends on the layout of the address space; sometimes none fits into what the failed step left
    assert "out of memory at batch_size 1024: " in done.stdout, done.stdout + done.stderr
