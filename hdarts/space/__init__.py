"""Search spaces, the discrete cells in them (`Genotype`), and the maps between alpha and cells."""

from hdarts.space.derive import discretise, mask_alpha, one_hot_alpha, one_hot_weights, strongest
from hdarts.space.genotype import Genotype, every_cell, skip_count
from hdarts.space.layers import RESIDUAL, CellPlan
from hdarts.space.named import SPACES, check_space
from hdarts.space.spaces import DARTS, NASBENCH201, NASBench201, SearchSpace, plan

__all__ = [
    "DARTS",
    "NASBENCH201",
    "RESIDUAL",
    "SPACES",
    "CellPlan",
    "Genotype",
    "NASBench201",
    "SearchSpace",
    "check_space",
    "discretise",
    "every_cell",
    "mask_alpha",
    "one_hot_alpha",
    "one_hot_weights",
    "plan",
    "skip_count",
    "strongest",
]
