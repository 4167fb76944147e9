"""Several processes that train one network: they compute what one process does, and only the main one writes."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from helpers.small_runs import contents, environment, signal_at
from helpers.tiny_training import TINY
from torch import nn

from hdarts.data import Augmentation, Batches
from hdarts.errors import ParameterError, Stopped
from hdarts.params import EvaluateParams, Parameters, SearchParams, check, identity
from hdarts.runs import checkpoint
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.provenance import read_starts
from hdarts.runs.run import Run
from hdarts.train import load_splits, new_network, read_genotype, train
from hdarts.train.distributed import synchronise_batch_norm

SYNC = {"sync_batch_norm": True, "flip": True, "limit": 44}  # 44 images in batches of 16: the last has 12


class Double(nn.Module):
    """An evaluation network in float64, so that rounding does not matter."""

    def __init__(self, params: EvaluateParams):
        super().__init__()
        self.network = new_network(params, read_genotype(params.genotype), load_splits(params)).double()

    def forward(self, images: torch.Tensor, *words: Any, **more: Any):
        return self.network(images.double(), *words, **more)


def trained(
    processes: Processes, changes: dict[str, Any], double: bool = True, epochs: int = 9, stop: tuple[int, ...] = ()
) -> list[dict[str, Any]] | str:
    """Train as one of `processes` for `epochs` epochs; with `stop` (rank, epoch, step), send SIGTERM to it there."""
    params = check(EvaluateParams, TINY | changes)
    run = processes.open(params)
    rows = train(params, run, network=Double(params) if double else None, processes=processes)
    with pytest.MonkeyPatch.context() as patch:
        if stop and stop[0] == processes.rank:
            signal_at(patch, stop[1], stop[2], signal.SIGTERM)
        try:
            found = list(itertools.islice(rows, epochs))
        except Stopped as stopped:
            return str(stopped)
    rows.close()  # type: ignore[attr-defined]
    return found


def folder(name: str = "tiny") -> Path:
    return Path(os.environ["HDARTS_RUNS"]) / name


def near(one: Path, other: Path, tolerance: float) -> None:
    """Compare all tables and the last checkpoint of two runs."""
    params = check(EvaluateParams, TINY)
    tables = [Run(path, params).table("metrics") for path in (one, other)]
    assert tables[0].to_numpy() == pytest.approx(tables[1].to_numpy(), rel=tolerance)
    for name in ("classes", "confusion", "calibration"):
        first, second = (Run(path, params).table(name) for path in (one, other))
        pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=tolerance)
    networks = [checkpoint.read(path / checkpoint.NEWEST)["network"] for path in (one, other)]
    for name, value in networks[0].items():
        torch.testing.assert_close(value, networks[1][name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("count", [16, 12, 7])
def test_shares_are_the_whole_batch_in_order_augmented_alike(count: int) -> None:
    data = load_splits(check(EvaluateParams, TINY | {"limit": 32 + count, "test_limit": 10})).train
    whole, *shares = (
        list(Batches(data, 16, Augmentation(1, True, 2), drop_last=False, share=share).epoch(3, "x", 1))
        for share in ((0, 1), (0, 3), (1, 3), (2, 3))
    )
    for step, (x, y) in enumerate(whole):
        parts = [share[step] for share in shares]
        assert torch.equal(torch.cat([part[0] for part in parts]), x)
        assert torch.equal(torch.cat([part[1] for part in parts]), y)
    offsets = [Batches(data, 16, drop_last=False, share=(rank, 3)).offset(2) for rank in range(3)]
    firsts = itertools.accumulate([len(share[2][1]) for share in shares[:2]], initial=0)
    assert offsets == [(first, count) for first in firsts]


def gradients(processes: Processes, among: int) -> list[torch.Tensor]:
    """Return the gradients of the first step on this process's share of `among`, averaged over the processes."""
    params = check(EvaluateParams, TINY | {"drop_path": 0.0})
    network = processes.parallel(Double(params).train())
    share = (processes.rank, among)
    x, y = next(Batches(load_splits(params).train, 16, Augmentation(1), share=share).epoch(0, "evaluate", 0))
    F.cross_entropy(network(x)[0], y).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def test_gradients_are_the_mean_of_those_of_the_shares(together) -> None:
    found = together(2, gradients, 2)
    alone = [gradients(Processes(rank), 2) for rank in range(2)]
    for one, other, *parts in zip(*found, *alone, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, (parts[0] + parts[1]) / 2, rtol=1e-12, atol=1e-12)


def test_with_synchronised_batch_norm_two_processes_train_as_one_does(together) -> None:
    weighted = SYNC | {"class_weights": "balanced"}
    one = trained(SINGLE, weighted | {"run": "one"})
    rows = together(2, trained, weighted | {"run": "many"})
    assert rows[0] == rows[1] and len(rows[0]) == len(one) == 3
    near(folder("one"), folder("many"), 1e-9)
    (start,) = read_starts(folder("many"))  # written by one of them
    assert start["processes"] == 2


def test_another_number_of_processes_resumes_the_training(together) -> None:
    trained(SINGLE, SYNC | {"run": "one"})
    for world, epochs in ((1, 1), (4, 2), (2, 3)):
        together(world, trained, SYNC | {"run": "many"}, True, epochs)
    near(folder("one"), folder("many"), 1e-9)


@pytest.mark.parametrize(("world", "batch"), [(2, 16), (3, 15)])
def test_a_signal_to_one_process_stops_all_and_they_resume_bit_for_bit(together, world: int, batch: int) -> None:
    whole, stopped = {"run": "whole", "batch_size": batch}, {"run": "stopped", "batch_size": batch}
    together(world, trained, whole, False)
    messages = together(world, trained, stopped, False, 9, (1, 2, 0))
    assert messages == ["stopped by SIGTERM after saving; the same command resumes from here"] * world
    state = checkpoint.read(folder("stopped") / checkpoint.NEWEST)
    assert (state["epoch"], state["step"]) == (1, 1)
    together(world, trained, stopped, False)
    ended, resumed = contents(folder("whole")), contents(folder("stopped"))
    assert {name for name in ended if ended[name] != resumed[name]} == {"params.yaml"}


def statistics(processes: Processes) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return outputs, gradients and running statistics of BatchNorm on this process's half of 6 images."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3)).double()
    for value in network.state_dict().values():  # no scale, offset or statistic as at the start
        value += torch.rand_like(value) if value.is_floating_point() else 3
    images = torch.randn(6, 2, 4, 4).double()
    if processes.world > 1:
        synchronise_batch_norm(network)
        images = images.chunk(2)[processes.rank]
    parallel = processes.parallel(network)
    out = parallel(images)
    (processes.world * (out**3).sum()).backward()
    return [out.detach()], [*(p.grad for p in network.parameters() if p.grad is not None), *network.buffers()]


def test_synchronised_batch_norm_is_that_of_all_images(together) -> None:
    first, second = together(2, statistics)
    out, rest = statistics(SINGLE)
    torch.testing.assert_close(torch.cat([first[0][0], second[0][0]]), out[0], rtol=1e-12, atol=1e-12)
    for one, other, alone in zip(first[1], second[1], rest, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("batch", "world"), [(15, 2), (16, 3), (4, 4)])
def test_a_batch_that_cannot_be_split_equally_is_refused(batch: int, world: int) -> None:
    with pytest.raises(ParameterError, match=f"batch_size {batch} cannot be split among {world} processes: use a"):
        Processes(0, world).validate(batch, "cpu")
    Processes(0, world).validate(2 * world, "cpu")


def test_a_parameter_added_later_does_not_rename_earlier_runs() -> None:
    params = check(EvaluateParams, TINY)
    assert "sync_batch_norm" not in params.identifying(params.model_dump())
    assert identity(params) != identity(check(EvaluateParams, TINY | {"sync_batch_norm": True}))
    assert set(Parameters.added_later) <= set(EvaluateParams.model_fields) | set(SearchParams.model_fields)


def torchrun(runs: Path, *changes: str) -> subprocess.Popen[str]:
    """Start the command on two real processes; `changes` are names and values of parameters."""
    file = runs.parent / "params.yaml"
    file.write_text(json.dumps(TINY | {"run": "many"}))
    words = ["--standalone", "--nproc-per-node", "2", "-m", "hdarts", "evaluate", str(file)]
    for name, value in zip(changes[::2], changes[1::2], strict=True):
        words += ["-p", name, value]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words],
        env=environment(runs),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.soak
def test_torchrun_on_two_processes_gives_the_tables_of_one_process(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    trained(SINGLE, SYNC | {"run": "one", "learning_rate": 0.01}, double=False)
    process = torchrun(tmp_path, "sync_batch_norm", "true", "learning_rate", "0.01")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert out.count("run folder: ") == out.count("epoch 3/3: ") == 1, "one process prints"
    near(tmp_path / "one", tmp_path / "many", 1e-3)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert {path.name for path in (tmp_path / "many").iterdir()} == names


@pytest.mark.soak
def test_sigterm_to_torchrun_makes_both_save_after_their_step(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "epochs", "100")
    patience = time.monotonic() + 600
    while not (tmp_path / "many" / "metrics.csv").exists():
        assert time.monotonic() < patience and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert err.count("hdarts: stopped by SIGTERM after saving; the same command resumes from here") == 2
    state = checkpoint.read(tmp_path / "many" / checkpoint.NEWEST)
    again = torchrun(tmp_path, "epochs", "100", "device", "cuda:99")
    _, err = again.communicate(timeout=600)
    assert again.returncode == 1 and "`device` = 'cuda:99': cannot be used on this machine" in err
    assert checkpoint.read(tmp_path / "many" / checkpoint.NEWEST)["epoch"] == state["epoch"] < 100


@pytest.mark.soak
def test_bad_input_is_reported_by_one_process_which_exits_with_code_2(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "batch_size", "15")
    _, err = process.communicate(timeout=600)
    assert err.count("hdarts: batch_size 15 cannot be split among 2 processes") == 1
    assert "exitcode  : 2 " in err and "RuntimeError" not in err
    assert not (tmp_path / "many").exists()
