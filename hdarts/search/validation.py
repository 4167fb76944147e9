"""Measurements between two epochs of a search: accuracy, the cost of discretisation, curvature of the outer loss."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem
from hdarts.data import Images, Splits, in_order
from hdarts.hypergradient.derivatives import products
from hdarts.hypergradient.spectrum import eigenvalues
from hdarts.params import SearchParams
from hdarts.search.state import State
from hdarts.search.weights import Classification
from hdarts.space import Genotype, one_hot_alpha, one_hot_weights
from hdarts.supernet import Mixture


def measure_epoch(
    params: SearchParams, problem: Classification, state: State, data: Splits, last: bool
) -> dict[str, float]:
    """Return the measurements on the validation part after an epoch (`last`: the last one); nan where not due.

    `discretised_accuracy` is that of the supernet with the one-hot mixture of the cell derived from alpha: its
    difference from `validation_accuracy` is the optimisation gap of thesis section 5.2.3.
    """
    images = data.validation
    assert images is not None
    w, alpha, epoch = state.weights.value(state.alpha), state.alpha, state.epoch + 1

    def due(every: int) -> bool:
        return every > 0 and (epoch % every == 0 or last)

    loss, percent = accuracy(problem, w, alpha, images, params.batch_size)
    row = {"validation_loss": loss, "validation_accuracy": percent, "discretised_accuracy": math.nan}
    if due(params.discretise_epochs) and not params.candidates:  # with candidates the cell is not that of alpha
        # w is unchanged; edges that are not in the cell (DARTS) add nothing
        row["discretised_accuracy"] = accuracy(
            discrete(problem, state.cell(), alpha), w, alpha, images, params.batch_size
        )[1]
    bare = replace(problem, outer_term=None)
    first = next(in_order(images, params.batch_size))
    row["eigenvalue"] = dominant_eigenvalue(bare, w, alpha, first) if due(params.eigenvalue_epochs) else math.nan
    return row


def discrete(problem: Classification, cell: Genotype, alpha: Tensor) -> Classification:
    """Return the problem in which the supernet has the operations of one cell only."""
    if problem.relaxation is None:  # a user-defined supernet that takes alpha only
        chosen = one_hot_alpha(cell, getattr(problem.supernet, "space", None)).to(alpha)
        return replace(problem, supernet=lambda x, w, _: problem.supernet(x, w, chosen))
    return problem.at(Mixture(one_hot_weights(cell, problem.supernet.space).to(alpha), sparse=True))


@torch.no_grad()
def accuracy(
    problem: Classification, w: Tensor, alpha: Tensor, images: Images | None, batch_size: int
) -> tuple[float, float]:
    """Return loss and accuracy (per cent) of the supernet on images without augmentation, with batch statistics."""
    assert images is not None
    loss, correct = 0.0, 0
    for batch in in_order(images, batch_size):
        batch_loss, batch_correct = problem.outcome(w, alpha, batch)
        loss, correct = loss + float(batch_loss) * len(batch[1]), correct + int(batch_correct)
    return loss / len(images), 100 * correct / len(images)


def dominant_eigenvalue(problem: BilevelProblem, w: Tensor, alpha: Tensor, batch: Any) -> float:
    """Return the eigenvalue of largest magnitude of d2 outer/d alpha2 at fixed w, on one batch, in nats.

    Its growth precedes the collapse of cells: Zela et al., Understanding and Robustifying DARTS, ICLR 2020.
    """
    second = products(lambda a, _, b: problem.outer(w.detach(), a, b), alpha, alpha, batch, "the outer loss")
    return eigenvalues(lambda q: second(q)[0], alpha, 1, "LM")[0]
