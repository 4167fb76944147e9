"""Single classes and confidences: counts against plain loops and scikit-learn, and the weights of unequal classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.tiny_training import TINY
from sklearn.metrics import confusion_matrix
from sklearn.utils.class_weight import compute_class_weight

from hdarts.data import in_order
from hdarts.params import EvaluateParams, check, identity
from hdarts.runs import checkpoint
from hdarts.runs.processes import SINGLE
from hdarts.runs.run import Run
from hdarts.train import load_splits, new_network, read_genotype, summary, train
from hdarts.train.classes import Counts, balanced_weights, calibration_error, class_loss


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))


def expected_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The definition of Guo et al., image by image."""
    total = 0.0
    for m in range(15):
        inside = [i for i, c in enumerate(confidence) if m / 15 < c <= (m + 1) / 15]
        if inside:
            total += len(inside) / len(confidence) * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total


def test_the_tables_are_those_of_the_last_network_on_the_test_images():
    params = check(EvaluateParams, TINY | {"data": "digits", "limit": 300, "test_limit": 110, "channels": 4})
    run, data = Run.open(params), load_splits(params)
    rows = list(train(params, run))
    network = new_network(params, read_genotype(params.genotype), data).eval()
    network.load_state_dict(checkpoint.read(run.folder / checkpoint.NEWEST)["network"])
    assert data.test is not None
    batches = [(network(x)[0].detach().double(), y) for x, y in in_order(data.test, params.batch_size)]
    logits, labels = (torch.cat(some) for some in zip(*batches, strict=True))
    predicted, right = logits.argmax(1), (logits.argmax(1) == labels).numpy()

    matrix = np.zeros((10, 10), int)
    for row in run.table("confusion").to_dict("records"):
        matrix[int(row["class"]), int(row["predicted"])] = row["images"]
    assert (matrix == confusion_matrix(labels, predicted, labels=range(10))).all()
    classes = run.table("classes")
    assert [*classes["images"]] == [*matrix.sum(1)] and [*classes["predicted"]] == [*matrix.sum(0)]
    assert classes["accuracy"].tolist() == pytest.approx((100 * matrix.diagonal() / matrix.sum(1)).tolist())
    assert sum(classes["correct"]) / 1.1 == pytest.approx(rows[-1]["test_accuracy"])

    result = run.result
    assert result is not None and len(run.table("calibration")) == 15
    error = expected_error(logits.softmax(1).amax(1).numpy(), right)
    assert result["calibration_error"] == pytest.approx(error) and error > 1
    assert result["mean_class_accuracy"] == pytest.approx(classes["accuracy"].mean())


def test_each_confidence_belongs_to_the_bin_that_ends_at_or_above_it():
    counts = Counts(["a", "b"])
    counts.add(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [0.0, 1.0]]), torch.tensor([0, 0, 0, 1]))
    assert counts.bins[:, 0].tolist() == [0] * 7 + [1] + [0, 0, 1] + [0] * 3 + [2]  # 0.5; 0.731; 1 and 1
    assert counts.confusion[:, :2].tolist() == [[2, 1], [0, 1]]
    counts.add(torch.tensor([[0.0, 0.0, 9.0], [float("nan")] * 3]), torch.tensor([1, 1]))
    assert counts.confusion[1, 2] == 1, "a custom network with more outputs than classes"


def test_a_confidence_at_an_edge_belongs_to_the_bin_below_it():
    counts = Counts(["a", "b", "c", "d", "e"])
    counts.add(torch.zeros(1, 5), torch.tensor([0]))
    assert counts.bins[:, 0].nonzero().tolist() == [[2]]  # 1/5 = 3/15: the third bin


def test_a_class_without_test_images_has_no_accuracy(tmp_path: Path):
    run, counts = Run(tmp_path, check(EvaluateParams, TINY)), Counts(["a", "b", "c"])
    counts.add(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), torch.tensor([0, 0]))
    counts.write(run, SINGLE)
    assert str(run.table("classes")["accuracy"].tolist()) == "[50.0, nan, nan]"
    confidence = 100 * torch.tensor([1.0, 0, 0]).softmax(0)[0].item()
    assert calibration_error(run.table("calibration")) == pytest.approx(abs(50 - confidence))


def test_weights_are_those_of_scikit_learn_and_the_loss_is_a_mean_over_images():
    labels = torch.tensor([0] * 7 + [2] * 2 + [3])
    weights = balanced_weights(labels, 5)
    present = compute_class_weight("balanced", classes=np.array([0, 2, 3]), y=labels.numpy())
    assert weights.tolist() == pytest.approx([present[0], 0, present[1], present[2], 0])
    assert weights[labels].mean().item() == pytest.approx(1)
    logits = torch.randn(10, 5, dtype=torch.float64)
    each = F.cross_entropy(logits, labels, reduction="none")
    assert class_loss(logits, labels, weights).item() == pytest.approx((weights[labels] * each).mean().item())
    assert torch.equal(class_loss(logits, labels, None), F.cross_entropy(logits, labels))


def test_balanced_classes_train_other_weights_under_another_name():
    plain, weighted = (check(EvaluateParams, TINY | {"class_weights": which}) for which in ("none", "balanced"))
    before = {name: value for name, value in TINY.items() if name != "class_weights"}
    assert EvaluateParams.identifying(plain.model_dump()) == EvaluateParams.identifying(before)
    assert identity(plain) != identity(weighted)
    losses = []
    for number, params in enumerate((plain, weighted)):
        run = Run.open(params.model_copy(update={"run": f"r{number}"}))
        losses.append([row["train_loss"] for row in train(params, run)])
    assert losses[0][0] != losses[1][0]


def test_a_run_of_an_earlier_release_has_a_result_without_these_numbers():
    params = check(EvaluateParams, TINY)
    run = Run.open(params)
    list(train(params, run))
    for name in ("classes.csv", "calibration.csv", "result.json"):
        (run.folder / name).unlink()
    assert not {"calibration_error", "mean_class_accuracy"} & summary(params, run).keys()
    assert json.dumps(summary(params, run))
