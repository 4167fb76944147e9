"""A training step on a GPU: one copy, of the masks of drop path, and nothing for which the host waits."""

import contextlib

import pytest
from helpers.host_watch import DEVICE, HostWatch
from helpers.tiny_training import TINY

from hdarts.params import EvaluateParams, check
from hdarts.runs.checkpoint import CheckpointClock
from hdarts.runs.run import Run
from hdarts.space import Genotype
from hdarts.train import loop, prepare

CELL = "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"


@pytest.mark.parametrize("genotype", ["params/genotypes/darts-v2.json", "benchmark"])
def test_no_step_of_a_training_waits_for_the_device(genotype: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    monkeypatch.setattr("hdarts.train.setup.use_machine", lambda _: DEVICE)
    monkeypatch.setattr(loop, "autocast", lambda *_: contextlib.nullcontext())  # `meta` has none
    if genotype == "benchmark":
        genotype = str(tmp_path / "cell.json")
        (tmp_path / "cell.json").write_text(Genotype.from_string(CELL).to_json())
    params = check(EvaluateParams, {**TINY, "genotype": genotype, "layers": 3 if "v2" in genotype else 1})
    training = prepare(params, Run.open(params), CheckpointClock(params))
    training.parallel.train()
    with HostWatch() as watch:
        batches = list(training.batches.epoch(0, "evaluate", 0))
    assert len(batches) == 3 and len(watch.copies) == 2 and not watch.reads
    with HostWatch() as watch:
        logits = loop.take_step(training, *batches[0], drop_path=0.2)
        training.sums += loop.tally(logits, batches[0][1])
    assert len(watch.copies) == 1 and not watch.reads  # the masks of drop path
    with HostWatch() as watch:
        loop.test_network(training.network, training.test_images, 10)
    assert not watch.copies and not watch.reads
