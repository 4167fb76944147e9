"""Training: it learns, follows its equations, and gives the same result after any interruption."""

import dataclasses
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_training import TINY
from torch import nn
from torch.nn import functional as F

import hdarts.train.loop
from hdarts.data import Augmentation, Batches, load
from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork, count_parameters
from hdarts.params import EvaluateParams, check
from hdarts.runs import checkpoint
from hdarts.runs.run import Run
from hdarts.train import finish, read_genotype, train

STEPS = 3  # an epoch of 44 images in batches of 16, the last of 12
EVERY_STEP = 1e-9  # checkpoint_minutes


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def opened(**changes) -> tuple[EvaluateParams, Run]:
    params = check(EvaluateParams, TINY | changes)
    return params, Run.open(params)


def trained(**changes) -> Run:
    params, run = opened(**changes)
    list(train(params, run))
    return run


def outcome(run: Run):
    """Return what an interruption must not change: bytes of tables and result, and every weight."""
    state = checkpoint.read(run.folder / checkpoint.NEWEST)
    tensors = {**state["network"]}
    for number, moments in state["optimiser"]["state"].items():
        tensors[f"momentum {number}"] = moments["momentum_buffer"]
    weights = {name: (tensor.dtype, tensor.numpy().tobytes()) for name, tensor in tensors.items()}
    names = ("metrics", "classes", "confusion", "calibration")
    files = {
        name: (run.folder / name).read_bytes()
        for name in ("result.json", "genotype.json", *(f"{n}.csv" for n in names))
    }
    return files, weights


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The outcome of an uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDARTS_RUNS", str(tmp_path_factory.mktemp("uninterrupted")))
        return outcome(trained())


def test_training_learns_digits():
    run = trained(data="digits", limit=240, test_limit=0, channels=6, cutout=0, flip=False, epochs=6, learning_rate=0.1)
    metrics = run.table("metrics")
    assert run.result is not None
    assert run.result["best_test_accuracy"] > 50  # chance is 10 per cent
    assert metrics["train_loss"].iloc[-1] < 0.5 * metrics["train_loss"].iloc[0]


def test_the_files_of_a_run_agree_with_each_other():
    params, run = opened(drop_path=0.3)
    rows = list(train(params, run))
    metrics, timings, result = run.table("metrics"), run.table("timings"), run.result
    assert result is not None
    columns = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "drop_path"]
    assert list(metrics.columns) == columns
    assert metrics.to_dict(orient="records") == rows
    assert metrics["epoch"].tolist() == timings["epoch"].tolist() == [1, 2, 3]
    assert timings[["seconds", "images_per_second"]].to_numpy().min() > 0
    assert metrics["learning_rate"].to_numpy() == pytest.approx([0.05, 0.0375, 0.0125])  # cos 0, 60 and 120 degrees
    assert metrics["drop_path"].to_numpy() == pytest.approx([0, 0.1, 0.2])
    assert result["best_test_accuracy"] == metrics["test_accuracy"].max()
    assert result["best_epoch"] == metrics["epoch"][metrics["test_accuracy"].idxmax()]
    assert result["last_test_accuracy"] == metrics["test_accuracy"].iloc[-1]
    genotype = read_genotype(str(run.folder / "genotype.json"))
    assert genotype == read_genotype("params/genotypes/darts-v2.json")
    assert result["genotype"] == json.loads(genotype.model_dump_json())
    assert result["parameters"] == count_parameters(EvaluationNetwork(genotype, 2, 3, 10, auxiliary=True))
    about = {name: result[name] for name in ("epochs", "evaluation_seed", "data")}
    assert about == {"epochs": 3, "evaluation_seed": 0, "data": "generated"}
    assert run.provenance["data"]["train"] == 44


class TwoLinears(nn.Module):
    """Logits and auxiliary logits linear in the pixels; records the drop-path rates of its calls."""

    def __init__(self, pixels: int):
        super().__init__()
        main, second = (0.01 * torch.randn(10, pixels, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
        self.main, self.auxiliary = nn.Parameter(main.double()), nn.Parameter(second.double())
        self.drop_paths: list[float] = []

    def forward(self, images, drop_path=0.0, generator=None):
        x = images.double().flatten(1)
        if not self.training:
            return x @ self.main.T, None
        self.drop_paths.append(drop_path)
        return x @ self.main.T, x @ self.auxiliary.T


def test_the_loop_is_sgd_with_momentum_weight_decay_clip_and_auxiliary_loss():
    """Recompute every number of the loop with gradients and updates in NumPy."""
    changes = {"epochs": 3, "auxiliary": 0.7, "clip": 5.0, "weight_decay": 0.05, "learning_rate_min": 0.01}
    params, run = opened(**changes)
    data = load("generated", limit=44, test_limit=20, validation_fraction=0.0, test=True)
    assert data.test is not None
    network = TwoLinears(3 * 8 * 8)
    w = [p.detach().numpy().copy() for p in (network.main, network.auxiliary)]
    rows = list(train(params, run, data=data, network=network))

    velocity, norms = [np.zeros_like(w[0]), np.zeros_like(w[1])], []
    batches = Batches(data.train, 16, Augmentation(1, True, 2), drop_last=False)
    for epoch, row in enumerate(rows):
        losses, right = [], 0
        rate = 0.01 + 0.04 * (1 + math.cos(math.pi * epoch / 3)) / 2
        for x, y in batches.epoch(0, "evaluate", epoch):
            x, target = x.double().flatten(1).numpy(), np.eye(10)[y]
            logits = [x @ each.T for each in w]
            softmax = [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in logits]
            gradient = [(p - target).T @ x / len(x) * scale for p, scale in zip(softmax, (1, 0.7), strict=True)]
            norms.append(math.sqrt(sum((g**2).sum() for g in gradient)))
            losses += (-np.log(softmax[0][target > 0])).tolist()
            right += int((logits[0].argmax(1) == y.numpy()).sum())
            for i in range(2):
                velocity[i] = 0.9 * velocity[i] + gradient[i] * min(1, 5 / (norms[-1] + 1e-6)) + 0.05 * w[i]
                w[i] = w[i] - rate * velocity[i]
        assert row["learning_rate"] == pytest.approx(rate)
        assert row["train_loss"] == pytest.approx(np.mean(losses), rel=1e-9)
        assert row["train_accuracy"] == pytest.approx(100 * right / 44)
    assert min(norms) < 5 < max(norms), "clipped at some steps, not at others"
    assert network.main.detach().numpy() == pytest.approx(w[0], abs=1e-10)
    assert network.auxiliary.detach().numpy() == pytest.approx(w[1], abs=1e-10)
    assert network.drop_paths == pytest.approx([0.0] * 3 + [0.2 / 3] * 3 + [0.4 / 3] * 3)
    test = ((data.test.pixels / 255 - data.mean.view(-1, 1, 1)) / data.std.view(-1, 1, 1)).double().flatten(1).numpy()
    answers = (test @ w[0].T).argmax(1) == data.test.labels.numpy()
    assert rows[-1]["test_accuracy"] == pytest.approx(100 * answers.mean())


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("period", [1, 2])
def test_a_run_resumed_after_some_epochs_equals_an_uninterrupted_one(uninterrupted, epochs, period):
    params, run = opened(checkpoint_epochs=period)
    stopped = train(params, run)
    first = list(itertools.islice(stopped, epochs))
    stopped.close()  # type: ignore[attr-defined]
    assert not run.done
    rows = list(train(params, run))
    assert rows[:epochs] == first
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert outcome(run) == uninterrupted
    assert run.table("timings")["epoch"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("call", [1, 2, 4, 6, 12, 15])
@pytest.mark.parametrize("minutes", [EVERY_STEP, 60.0], ids=["saved every step", "saved every epoch"])
def test_a_run_interrupted_within_an_epoch_equals_an_uninterrupted_one(uninterrupted, monkeypatch, call, minutes):
    """`tally` is called after each of 3 steps and each of 2 test batches of an epoch."""
    params, run = opened(checkpoint_minutes=minutes)
    calls = itertools.count(1)
    real = hdarts.train.loop.tally

    def interrupted(*arguments):
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(hdarts.train.loop, "tally", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(train(params, run))
    list(train(params, run))
    assert outcome(run) == uninterrupted


PROGRAM = """
import json, sys
from hdarts.params import EvaluateParams, check
from hdarts.runs.run import Run
from hdarts.train import train
params = check(EvaluateParams, json.loads(sys.argv[1]))
list(train(params, Run.open(params)))
"""


def test_a_run_killed_at_a_random_moment_equals_an_uninterrupted_one(runs):
    seed = time.time_ns()
    print(f"seed of the random moment: {seed}")
    draw = random.Random(seed)
    changes: dict[str, Any] = {"epochs": 6, "checkpoint_epochs": draw.choice([1, 2, 3])}
    changes["checkpoint_minutes"] = draw.choice([EVERY_STEP, 1e-3, 60.0])
    params, run = opened(run="killed", **changes)
    environment = {**os.environ, "HDARTS_PROGRESS": "log"}
    command = [sys.executable, "-c", PROGRAM, params.model_dump_json()]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    rows, patience = draw.randrange(5), time.monotonic() + 60
    while len(run.table("metrics")) < rows and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.1))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not run.done
    list(train(params, run))
    assert outcome(run) == outcome(trained(run="uninterrupted", **changes))


def test_a_damaged_checkpoint_is_renamed_and_the_previous_one_is_used(uninterrupted, capsys):
    params, run = opened()
    stopped = train(params, run)
    list(itertools.islice(stopped, 2))
    stopped.close()  # type: ignore[attr-defined]
    newest = run.folder / checkpoint.NEWEST
    newest.write_bytes(newest.read_bytes()[:-100])
    list(train(params, run))
    assert "renamed to" in capsys.readouterr().err
    assert outcome(run) == uninterrupted


def test_a_finished_run_yields_its_rows_and_changes_nothing():
    params, run = opened()
    rows = list(train(params, run))
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert list(train(params, run)) == rows
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_run_killed_between_last_checkpoint_and_result_only_finishes(uninterrupted):
    params, run = opened()
    rows = train(params, run, finish=False)
    next(rows)
    with pytest.raises(ParameterError, match="has not reached its end"):
        finish(params, run)
    list(rows)
    timings = run.table("timings")
    assert not run.done and len(list(train(*opened()))) == 3
    assert outcome(run) == uninterrupted
    assert run.table("timings").equals(timings)


def test_checkpoints_of_a_finished_run_are_removed_but_for_those_to_keep():
    run = trained(keep_checkpoint=False, keep_epochs=[2], checkpoint_epochs=3)
    assert [path.name for path in run.folder.glob("checkpoint*")] == ["checkpoint.epoch-2.pt"]
    assert checkpoint.read(run.folder / "checkpoint.epoch-2.pt")["epoch"] == 2
    assert (trained(run="kept").folder / checkpoint.NEWEST).exists()


def test_the_result_depends_on_the_evaluation_seed_only(uninterrupted):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = outcome(trained(run="again"))
    assert torch.equal(torch.get_rng_state(), state)
    assert again == uninterrupted
    files, weights = outcome(trained(run="other", evaluation_seed=1))
    assert files["metrics.csv"] != uninterrupted[0]["metrics.csv"]
    assert weights["stem.0.weight"] != uninterrupted[1]["stem.0.weight"]


def test_weight_0_leaves_out_the_auxiliary_head():
    names = outcome(trained(auxiliary=0.0, epochs=1))[1]
    assert not [name for name in names if name.startswith("auxiliary")]


def test_losses_of_a_network_in_bfloat16_have_the_digits_of_float32(monkeypatch):
    """In training, for both classifiers, and in the test."""
    seen, cross_entropy = set(), F.cross_entropy

    def recorded(logits, *rest, **options):
        seen.add(logits.dtype)
        return cross_entropy(logits, *rest, **options)

    monkeypatch.setattr(F, "cross_entropy", recorded)
    trained(precision="bfloat16", epochs=1)
    assert seen == {torch.float32}


def test_a_last_batch_of_one_image_is_left_out():
    """BatchNorm has no variance of one image's 1x1 maps, so that batch cannot be trained on."""
    params, run = opened(limit=33, epochs=2)
    network = TwoLinears(3 * 8 * 8)
    list(train(params, run, network=network))
    assert len(network.drop_paths) == 2 * 2
    assert trained(run="module", limit=33, epochs=1).done


class BreaksAt(TwoLinears):
    """Multiplies the logits of one training step by `value`."""

    def __init__(self, step: int, value: float):
        super().__init__(3 * 8 * 8)
        self.step, self.value = step, value

    def forward(self, images, drop_path=0.0, generator=None):
        logits, auxiliary = super().forward(images, drop_path, generator)
        return (logits * self.value if len(self.drop_paths) == self.step + 1 else logits), auxiliary


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("step", "message"),
    [
        (1, "epoch 1, step 1: loss nan, .*no checkpoint had been saved"),
        (4, "epoch 2, step 1: .*last checkpoint is .*pt"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(value, step, message):
    params, run = opened()
    with pytest.raises(FloatingPointError, match=message):
        list(train(params, run, network=BreaksAt(step, value)))
    assert not run.done
    assert len(run.table("metrics")) == step // STEPS


def test_a_genotype_comes_from_a_run_folder_or_a_file(runs, tmp_path):
    file, text = tmp_path / "g.json", read_genotype("params/genotypes/darts-v1.json").to_json()
    file.write_text(text)
    (runs / "study" / "select").mkdir(parents=True)
    (runs / "study" / "select" / "genotype.json").write_text(text)
    assert read_genotype(str(file)).to_json() == read_genotype("study/select").to_json() == text


def test_a_run_is_not_continued_with_another_genotype(tmp_path):
    path = tmp_path / "g.json"
    path.write_text(read_genotype("params/genotypes/darts-v1.json").to_json())
    params, run = opened(genotype=str(path))
    next(train(params, run))
    path.write_text(read_genotype("params/genotypes/darts-v2.json").to_json())
    with pytest.raises(ParameterError, match="another genotype"):
        next(train(params, run))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genotype": "no/such"}, "genotype = 'no/such': is no run below .*, no file .*, and no text"),
        ({"genotype": "params"}, r"genotype = 'params': is no run .*, no file \(.*/params is a folder\), and no text"),
        ({"genotype": "x" * 300}, "cannot be read|is no run"),
        ({"genotype": "pyproject.toml"}, "pyproject.toml: genotype: the text is not JSON"),
        ({"batch_size": 45}, "batch_size is 45 and has to be from 1 to 44"),
        ({"data": "cifar11"}, "data set 'cifar11' is unknown"),
        ({"limit": 5}, "limit of generated is 5 and has to be 0 or from 10"),
        ({"device": "cuda:99"}, "`device` = 'cuda:99': cannot be used"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(changes, message):
    params, run = opened(**changes)
    with pytest.raises(ParameterError, match=message):
        next(train(params, run))
    assert [path.name for path in run.folder.iterdir() if path.name != ".lock"] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "\x00",
        "[" * 100_000,
        '{"format": 2, "space": "darts"}',
        '{"format": 1, "space": "darts", "normal": [], "reduce": []}',
        '{"format": 1, "space": "darts", "normal": "__import__(\'os\')", "reduce": 3}',
    ],
    ids=range(7),
)
def test_a_file_without_a_genotype_is_refused_by_name(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"bad\.json: genotype: "):
        read_genotype(str(path))
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ParameterError, match=r"bad\.json: cannot be read as the text"):
        read_genotype(str(path))


def test_data_without_a_test_part_is_refused():
    params, run = opened()
    with pytest.raises(ParameterError, match="no test part"):
        next(train(params, run, data=load("generated", limit=44, validation_fraction=0.0)))


class Outputs(nn.Module):
    """A network with so many outputs, and an auxiliary head in training with so many."""

    def __init__(self, classes: int, of_auxiliary: int, channels: int = 3):
        super().__init__()
        self.main, self.auxiliary = nn.Linear(channels, classes), nn.Linear(channels, of_auxiliary)

    def forward(self, images, drop_path=0.0, generator=None):
        x = images.mean((2, 3))
        return self.main(x), self.auxiliary(x) if self.training else None


class OnlyLogits(Outputs):
    def forward(self, images, drop_path=0.0, generator=None):
        return super().forward(images)[0]


UNFIT = {
    "five outputs": (Outputs(5, 10), r"shape of its logits for 2 images is \(2, 5\) and has to be \(2, 10\)"),
    "auxiliary outputs": (Outputs(10, 3), r"shape of its auxiliary logits for 2 images is \(2, 3\) and has to be"),
    "grey images": (Outputs(10, 10, 1), "network: does not fit: RuntimeError: mat1 and mat2 shapes"),
    "no auxiliary": (OnlyLogits(10, 10), "network: has to return its logits and those of its auxiliary head, or None"),
    "no drop path": (nn.Flatten(), "network: does not fit: TypeError"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_network_that_does_not_fit_is_refused_before_any_file(name: str):
    params, run = opened()
    network, sentence = UNFIT[name]
    with pytest.raises(ParameterError, match=sentence):
        next(train(params, run, network=network))
    assert not (run.folder / "provenance.json").exists() and not (run.folder / "genotype.json").exists()


def test_data_without_a_test_part_or_with_unknown_labels_is_refused():
    params, run = opened()
    with pytest.raises(ParameterError, match="data digits: has no test part; load it with test=True"):
        next(train(params, run, data=load("digits", validation_fraction=0.0)))
    data = load("digits", validation_fraction=0.0, test=True)
    wrong = dataclasses.replace(data, classes=data.classes[:5])
    with pytest.raises(ParameterError, match="train part of data digits: labels are 0 to 9 and have to be 0 to 4"):
        next(train(params, run, data=wrong))


def test_a_checkpoint_of_another_network_is_refused():
    params, run = opened(epochs=2, checkpoint_minutes=EVERY_STEP)
    next(train(params, run, network=Outputs(10, 10)))
    genotype = read_genotype(params.genotype)
    other = EvaluationNetwork(genotype, params.channels, params.layers, 10, auxiliary=False)
    with pytest.raises(ParameterError, match="the run was started with another custom object"):
        next(train(params, run, network=other))
