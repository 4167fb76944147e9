"""Parameters: one flat pydantic model per notebook, its checks, and the identity of a run.

The models define names, types and limits; the defaults are in each notebook's parameters cell. An unknown, missing or
impossible value raises `ParameterError` with one sentence before any work is done.
"""

from hdarts.errors import ParameterError
from hdarts.params.base import SGD, Checkpoints, Images, Machine, Parameters
from hdarts.params.models import (
    MODELS,
    AnalysisParams,
    EvaluateParams,
    HypergradientParams,
    InterferenceParams,
    RelativesParams,
    ResponseParams,
    SelectParams,
    ToyBilevelParams,
    ToyHypernetworkParams,
)
from hdarts.params.reading import check, collect, identity, notebook_defaults, read_yaml, recorded, validated
from hdarts.params.search import SearchParams
from hdarts.params.types import Precision

__all__ = [
    "MODELS",
    "SGD",
    "AnalysisParams",
    "Checkpoints",
    "EvaluateParams",
    "HypergradientParams",
    "Images",
    "InterferenceParams",
    "Machine",
    "ParameterError",
    "Parameters",
    "Precision",
    "RelativesParams",
    "ResponseParams",
    "SearchParams",
    "SelectParams",
    "ToyBilevelParams",
    "ToyHypernetworkParams",
    "check",
    "collect",
    "identity",
    "notebook_defaults",
    "read_yaml",
    "recorded",
    "validated",
]
