r"""The last test of a training by class, and the calibration of its confidences.

$$ \mathrm{ECE} = \sum_b \frac{n_b}{n} \, | \mathrm{accuracy}_b - \mathrm{confidence}_b | \qquad
(\mathrm{Guo \; et \; al., \; ICML \; 2017}) $$

A confidence is the softmax of the predicted class. By it, the n images fall into 15 bins of equal width; accuracy_b and
confidence_b are means over the n_b images of bin b. The ECE is in points, as accuracies are in per cent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.runs.processes import Processes
from hdarts.runs.run import Run

BINS = 15


class Counts:
    """Counts over test images: by true and predicted class, and by confidence."""

    def __init__(self, classes: Sequence[str]):
        self.classes = classes
        # the last column: predictions of a custom network that are no class
        self.confusion = torch.zeros(len(classes), len(classes) + 1, dtype=torch.float64)
        self.bins = torch.zeros(BINS, 3, dtype=torch.float64)  # images, sum of confidences, correct predictions

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits `(N, classes)`, labels `(N,)`, on any device."""
        logits, labels = logits.detach().cpu().double(), labels.cpu()
        confidence, predicted = logits.softmax(1).amax(1), logits.argmax(1)
        ones = torch.ones_like(confidence)
        pair = labels, predicted.clamp(max=len(self.classes))
        self.confusion.index_put_(pair, ones, accumulate=True)
        where = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)  # the upper end belongs to the bin
        self.bins.index_add_(0, where, torch.stack([ones, confidence, (predicted == labels).double()], 1))

    def write(self, run: Run, processes: Processes) -> None:
        """Write classes.csv, confusion.csv (pairs that occur) and calibration.csv, over all processes."""
        processes.sum(self.confusion)
        processes.sum(self.bins)
        names, confusion = [*self.classes, "no class"], self.confusion.long()
        rows = zip(names, confusion.sum(1).tolist(), confusion.diag().tolist(), confusion.sum(0).tolist(), strict=False)
        run.write_table(
            "classes",
            [
                {
                    "class": name,
                    "images": n,
                    "predicted": predicted,
                    "correct": correct,
                    "accuracy": _percent(correct, n),
                }
                for name, n, correct, predicted in rows
            ],
        )
        pairs = [
            {"class": names[true], "predicted": names[predicted], "images": int(confusion[true, predicted])}
            for true, predicted in confusion.nonzero().tolist()
        ]
        run.write_table("confusion", pairs)
        run.write_table(
            "calibration",
            [
                {"from": 100 * b / BINS, "to": 100 * (b + 1) / BINS, "images": int(n), "confidence": _percent(sure, n),
                 "accuracy": _percent(correct, n)}
                for b, (n, sure, correct) in enumerate(self.bins.tolist())
            ],
        )  # fmt: skip


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def summary_of_classes(run: Run) -> dict[str, Any]:
    """Return the mean accuracy of the classes (per cent) and the ECE (points); {} for a run without these tables."""
    classes, bins = run.table("classes"), run.table("calibration")
    if classes.empty or bins.empty:
        return {}
    return {
        "mean_class_accuracy": float(
            np.nanmean(classes["accuracy"].to_numpy())
        ),  # of the classes that have test images
        "calibration_error": calibration_error(bins),
    }


def calibration_error(bins: pd.DataFrame) -> float:
    """Return the expected calibration error of calibration.csv, in points."""
    accuracy, confidence, images = bins[["accuracy", "confidence", "images"]].to_numpy().T
    return float(np.nansum(np.abs(accuracy - confidence) * images) / images.sum())


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return the weight N / (K N_c) of each class c, for N_c of N images and K classes that have any.

    The mean over the images is 1. A class without images has weight 0.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).double()
    used = counts > 0
    return torch.where(used, counts.sum() / (used.sum() * counts.clamp(min=1)), 0.0).float().to(labels.device)


def class_loss(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the images of cross entropy times the weight of the image's class (None: 1)."""
    if weights is None:
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits, labels, weights.to(logits.dtype), reduction="sum") / len(labels)
