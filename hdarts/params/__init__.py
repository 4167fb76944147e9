"""Parameters: one flat pydantic model per notebook, its checks, and the identity of a run.

The models define names, types, limits and documentation. A notebook's parameters cell has the values of fields without
a default, which are those that a reader changes. An unknown, missing or impossible value raises `ParameterError` with
one sentence before any work is done.
"""

from hdarts.errors import ParameterError
from hdarts.params.base import SGD, Checkpoints, Images, Machine, Parameters
from hdarts.params.describe import describe
from hdarts.params.models import (
    MODELS,
    AnalysisParams,
    EvaluateParams,
    HypergradientParams,
    InterferenceParams,
    OneStepParams,
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
    "OneStepParams",
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
    "describe",
    "identity",
    "notebook_defaults",
    "read_yaml",
    "recorded",
    "validated",
]
