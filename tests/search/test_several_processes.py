"""Several processes that share one search: they compute what one process does, and only the main one writes."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.small_runs import contents, environment

from hdarts.data import load
from hdarts.errors import Stopped
from hdarts.params import SearchParams, check, notebook_defaults
from hdarts.runs import checkpoint
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.run import Run
from hdarts.search import State, search
from hdarts.space import DARTS, NASBENCH201
from hdarts.supernet import Supernet
from tests.helpers import ROOT

TINY: dict[str, Any] = notebook_defaults(ROOT / "notebooks" / "03_search.ipynb") | {
    **{"data": "generated", "limit": 34, "batch_size": 12, "channels": 2, "epochs": 2, "log_every": 1},
    **{"image_size": 6, "crop_padding": 1, "keep_checkpoint": True, "validation_fraction": 0.5},
}
SPACES = {"darts": (DARTS, 3), "nasbench201": (NASBENCH201, 1)}


class Double(Supernet):
    """A supernet in float64, so that rounding does not matter."""

    def initial_w(self, generator: torch.Generator) -> torch.Tensor:
        return super().initial_w(generator).double()

    def mixture(self, images: torch.Tensor, w: torch.Tensor, mixture: Any) -> torch.Tensor:
        return super().mixture(images.double(), w, mixture)


def searched(processes: Processes, changes: dict[str, Any], epochs: int = 9, stop: tuple[int, ...] = ()) -> Any:
    """Search as one of `processes`; with `stop` (rank, steps), send SIGTERM to that process after so many steps."""
    params = check(SearchParams, TINY | changes)
    run = processes.open(params)
    data = load(params.data, limit=params.limit, image_size=params.image_size, validation_fraction=0.5, split_seed=0)
    space, layers = SPACES[params.space]
    supernet = Double(space, params.channels, layers, len(data.classes), data.train.shape[0])
    take, counts = State.count, itertools.count(1)

    def count(state: State, *arguments: Any) -> None:
        take(state, *arguments)
        if stop and stop[0] == processes.rank and next(counts) == stop[1]:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "count", count)
        rows = search(params, run, data=data, supernet=supernet, processes=processes)
        try:
            return list(itertools.islice(rows, epochs))
        except Stopped as stopped:
            return str(stopped)
        finally:
            rows.close()  # type: ignore[attr-defined]


def folder(name: str) -> Path:
    return Path(os.environ["HDARTS_RUNS"]) / name


def near(one: Path, other: Path, tolerance: float) -> None:
    """Compare all numbers that a search computes, and its last checkpoint."""
    params = check(SearchParams, TINY)
    for table in ("metrics", "alpha", "hypergradients"):
        left, right = (Run(path, params).table(table).select_dtypes("number").to_numpy() for path in (one, other))
        assert left == pytest.approx(right, rel=tolerance, abs=tolerance, nan_ok=True), table
    states = [checkpoint.read(path / checkpoint.NEWEST)["weights"] for path in (one, other)]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=tolerance, atol=tolerance, msg=name)
    assert (one / "genotype.json").read_text() == (other / "genotype.json").read_text()


METHODS = [
    {"method": "darts-first", "space": "nasbench201"},
    {"method": "darts-second", "epochs": 1},
    {"method": "hypernetwork", "hypernetwork": "mlp", "epochs": 1},
    {"method": "neumann", "terms": 2, "learning_rate": 0.001, "space": "nasbench201"},
    {"hypernetwork": "linear", "centred": True, "response_update": "tangent", "space": "nasbench201"},
    {"method": "darts-first", "space": "nasbench201", "neighbourhood": "adversarial", "perturbation": 0.2},
    {"method": "darts-second", "space": "nasbench201", "parametrisation": "gumbel", "outer_term": "kl"},
]


@pytest.mark.filterwarnings("ignore::hdarts.hypergradient.HypergradientWarning")  # the tiny networks have no minimum
@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(str(one) for one in method.values()))
def test_with_synchronised_batch_norm_two_processes_search_as_one_does(together, method: dict[str, Any]) -> None:
    one = searched(SINGLE, method | {"run": "one"})
    rows = together(2, searched, method | {"run": "many", "sync_batch_norm": True})
    assert len(rows[0]) == len(rows[1]) == len(one) == method.get("epochs", 2)
    near(folder("one"), folder("many"), 1e-9)


def test_another_number_of_processes_resumes_the_search(together) -> None:
    method = {**METHODS[0], "sync_batch_norm": True, "epochs": 3}
    searched(SINGLE, method | {"run": "one"})
    for world, epochs in ((1, 1), (3, 2), (2, 3)):
        together(world, searched, method | {"run": "many"}, epochs)
    near(folder("one"), folder("many"), 1e-9)


def test_a_signal_to_one_process_stops_all_and_they_resume_bit_for_bit(together) -> None:
    method = METHODS[2] | {"epochs": 2}
    together(2, searched, method | {"run": "whole"})
    ended = together(2, searched, method | {"run": "stopped"}, 9, (1, 3))
    assert ended == ["stopped by SIGTERM after saving; the same command resumes from here"] * 2
    state = checkpoint.read(folder("stopped") / checkpoint.NEWEST)
    assert (state["epoch"], state["step"]) == (1, 1)
    together(2, searched, method | {"run": "stopped"})
    whole, resumed = contents(folder("whole")), contents(folder("stopped"))
    assert {name for name in whole if whole[name] != resumed[name]} <= {"params.yaml"}


@pytest.mark.soak
def test_torchrun_searches_on_two_processes_and_refuses_what_cannot_be_split(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(TINY | {"run": "many", "method": "darts-first"}))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "hdarts", "search", str(file)]
    done = subprocess.run(words, env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder: ") == done.stdout.count("epoch 2/2: ") == 1, "one process prints"
    assert (tmp_path / "runs" / "many" / "result.json").is_file()
    words += ["-p", "batch_size", "15", "-p", "run", "other"]
    done = subprocess.run(words, env=environment(tmp_path / "runs"), capture_output=True, text=True, timeout=600)
    assert done.stderr.count("hdarts: batch_size 15 cannot be split among 2 processes") == 1
    assert not (tmp_path / "runs" / "other").exists()
