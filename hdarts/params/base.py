"""What the parameter models of several notebooks share: identity, machine, images, checkpoints, SGD."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hdarts.params.types import Count, CountOrZero, Fraction, Integer, NotNegative, Positive, Precision, Text


class Parameters(BaseModel):
    """Base of all parameter models: flat, strictly typed, immutable; unknown names are refused.

    `run` is the run folder below `runs/` ("": derived from the parameters). Three tables keep the names of runs stable:
    `not_identifying` are the fields that do not change what is computed; `added_later` are fields that an earlier
    release did not have, with the value that reproduces it; `renamed_values` maps old spellings to new.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    stage: ClassVar[str]
    added_later: ClassVar[Mapping[str, Any]] = {
        **{"sync_batch_norm": False, "tensorboard": False, "stream": False, "workers": 2},
        **{
            "stem": "cifar",
            "class_weights": "none",
            "drop_last": True,
            "order": "alpha-first",
            "nesterov": False,
            "schedule": "epoch",
        },
    }
    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {"rest": {"own": "learned"}}
    not_identifying: ClassVar[frozenset[str]] = frozenset(
        {
            *("run", "device", "threads", "deterministic", "tensorboard", "stream", "workers"),
            *("checkpoint_epochs", "checkpoint_minutes", "keep_epochs", "keep_checkpoint"),
        }
    )
    run: Text

    @classmethod
    def identifying(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that determine what a run computes, as the first release spelled them."""
        first = {name: {new: old for old, new in renamed.items()} for name, renamed in cls.renamed_values.items()}
        kept = {k: v for k, v in respelled(values, first).items() if k not in cls.not_identifying}
        defaults = {k: field.default for k, field in cls.model_fields.items() if not field.is_required()}
        later = defaults | dict(cls.added_later)
        return {k: v for k, v in kept.items() if not (k in later and v == later[k])}

    def slug(self) -> str:
        """Return a short readable name of the run; the hash of `identity` makes it unique."""
        return self.stage


def respelled(values: Mapping[str, Any], renamed: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return parameters with the words of a table of `renamed` values replaced."""
    return {k: renamed[k].get(v, v) if k in renamed and isinstance(v, str) else v for k, v in values.items()}


class Machine(BaseModel):
    """Where and how a run computes."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")]
    threads: CountOrZero  # CPU threads; 0: PyTorch's default
    deterministic: bool  # a fixed order of sums on a GPU; the CPU has it anyway


class Images(BaseModel):
    """Which images, which part of them, and their augmentation (hdarts.data)."""

    data: Annotated[Text, Field(min_length=1)]
    data_folder: Text
    limit: CountOrZero
    skip_damaged: bool
    image_size: Annotated[Integer, Field(ge=0, le=4096)]  # pixels
    image_channels: Literal["auto", 1, 3] = "auto"  # 1: grey; auto: 3 unless all training images are grey
    validation_part: Literal["unused", "outer", "test"] = "unused"  # of the set, if it has one: what it is for
    test_fraction: Fraction = 0.0  # of the training images, for testing; 0: the test part, or a fifth of a flat folder
    stream: bool  # read the images of a folder for each batch, not once
    workers: Annotated[int, Field(ge=0, le=1024)]  # processes that read them; 0: the main one
    crop_padding: CountOrZero
    flip: bool
    cutout: CountOrZero

    def source(self) -> dict[str, Any]:
        """Return the arguments of `hdarts.data.load` that say which images a run reads, by name."""
        names = ("limit", "test_limit", "skip_damaged", "image_size", "image_channels", "stream", "workers")
        names += ("validation_part", "test_fraction", "validation_fraction", "split_seed")
        found = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {"folder": self.data_folder, **found}


class Checkpoints(BaseModel):
    """When a loop saves, which epochs it keeps, whether a finished run keeps its last checkpoint, and event files."""

    checkpoint_epochs: Count
    checkpoint_minutes: Positive
    keep_epochs: list[CountOrZero]
    keep_checkpoint: bool
    tensorboard: bool


class Network(BaseModel):
    """Sizes of a network."""

    stem: Literal["cifar", "imagenet"]  # one convolution of stride 1, or three of stride 2 for large images
    channels: Annotated[Integer, Field(ge=1, le=4096)]  # C of the first cell
    layers: Annotated[Integer, Field(ge=1, le=1024)]  # cells; of NAS-Bench-201, of each of three stages

    @model_validator(mode="after")
    def _halves_its_channels(self) -> Self:
        if self.stem == "imagenet" and self.channels % 2:
            raise ValueError(f"channels: {self.channels} is odd; stem: imagenet begins with half of them")
        return self


def _no_auto(value: Any) -> Any:
    if value == "auto":
        raise ValueError("a batch size changes results, so none is chosen silently; `hdarts batch-size` proposes one")
    return value


class SGD(BaseModel):
    """SGD with momentum, coupled weight decay, gradient-norm clip and a cosine schedule by epoch."""

    epochs: Count
    batch_size: Annotated[Integer, Field(ge=2), BeforeValidator(_no_auto)]
    learning_rate: Positive
    learning_rate_min: NotNegative
    momentum: Fraction
    weight_decay: NotNegative
    clip: Positive
    precision: Precision  # of the network's activations; weights and their gradients are float32
