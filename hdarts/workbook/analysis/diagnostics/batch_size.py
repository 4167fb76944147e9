"""The thesis's figure 32: does a larger batch make hypergradients smaller?

The thesis draws the mean magnitude of the 8 hypergradients of one random edge of a normal cell at 3 random steps, for
two models with two batch sizes: hyperDARTS-1 with 48 images and a two-layer linear hypernetwork with 64. `as_in_thesis`
does the same; `by_batch_size` keeps the model and changes only the batch size. Magnitude: quadratic mean over the
operations of an edge.
"""

import math
from typing import Any

import torch

from hdarts import hypergradient as hg
from hdarts.data import dataset_info
from hdarts.params import SearchParams
from hdarts.runs.randomness import generator
from hdarts.space import SPACES, SearchSpace
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot, short_search

STEPS = 3  # of a search, chosen at random
FACTORS = (0.25, 0.5, 0.75, 1, 2)  # of the batch size of the search
SHARE = 12  # images of a short search, in batches: 6 steps on each level


def random_edge(space: SearchSpace, seed: int) -> int:
    """Return the index of the edge that the figure shows: in DARTS from 0 to 13."""
    return int(torch.randint(len(space.edges), (1,), generator=generator(seed, "random edge")))


def as_in_thesis(base: SearchParams, name: str, seed: int) -> list[Row]:
    """Return magnitudes at each step of two short searches below the run folder `name`, which differ in two parameters.

    As in the thesis: a linear hypernetwork with 3/4 of the batch size (48 of 64), and a two-layer linear one with the
    whole batch size. Other parameters are those of `base`, for one epoch of about 6 steps. `drawn` marks the 3 steps
    that the thesis would show.
    """
    batch = max(base.batch_size, 3)
    found = dataset_info(base.data, **base.source(), download=True)
    images = found.train + found.validation
    common: dict[str, Any] = {"method": "hypernetwork", "rest": "learned", "initialisation": "default", "epochs": 1}
    common |= {"centred": False, "noise": 0.0, "antithetic": False, "log_every": 1, "part": "total"}
    common |= {"limit": min(images, SHARE * batch), "keep_epochs": [], "keep_checkpoint": False}
    models: dict[str, dict[str, Any]] = {
        "linear": {"hypernetwork": "linear", "batch_size": 3 * batch // 4},
        "two-layer linear": {"hypernetwork": "mlp", "activation": "identity", "batch_size": batch},
    }
    logs = {
        model: short_search(f"{name}/{model.replace(' ', '-')}", common | changes, base).table("hypergradients")
        for model, changes in models.items()
    }
    shared = min(len(log) for log in logs.values())
    drawn = set(torch.randperm(shared, generator=generator(seed, "random steps"))[:STEPS].tolist())
    space = SPACES[base.space]
    edges = [f"{space.kinds[0]}_{source}-{node}" for source, node in space.edges]
    return [
        {
            "model": model,
            "batch_size": models[model]["batch_size"],
            "step": step,
            "edge": norms[edges[random_edge(space, seed)]] / math.sqrt(len(space.operations)),
            "mean": sum(norms[edge] for edge in edges) / len(edges) / math.sqrt(len(space.operations)),
            "drawn": step in drawn,
        }
        for model, log in logs.items()
        for step, norms in enumerate(log.to_dict("records"))
    ]


def by_batch_size(snapshot: Snapshot, seed: int, draws: int = STEPS) -> list[Row]:
    """Return magnitudes of a snapshot's hypergradient on `draws` validation batches of each of five sizes.

    The sizes are 1/4 to 2 times that of the search, if there are enough images. The hypergradient is the one through
    the hypernetwork, or the direct one if there is none.
    """
    assert snapshot.data.validation is not None
    composed, edge, rows = snapshot.composed(), random_edge(snapshot.space, seed), []
    for factor in FACTORS:
        size = max(2, int(factor * snapshot.params.batch_size))
        if size > len(snapshot.data.validation):
            continue
        for draw, batch in enumerate(snapshot.batches("outer", size, draws, seed)):
            if composed is None:
                hypergradient = hg.direct(snapshot.problem, snapshot.w, snapshot.alpha, batch)
            else:
                hypergradient = hg.hypernetwork(*composed, snapshot.alpha, batch)
            normal = hypergradient.total[0].square().mean(-1).sqrt()
            rows.append({"batch_size": size, "draw": draw, "edge": float(normal[edge]), "mean": float(normal.mean())})
    return rows
