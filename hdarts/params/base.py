"""What the parameter models of several notebooks share: identity, machine, images, checkpoints, SGD."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hdarts.params.types import Count, CountOrZero, Fraction, Integer, NotNegative, Positive, Precision, Text


class Parameters(BaseModel):
    """Base of all parameter models: flat, strictly typed, immutable; unknown names are refused.

    `run` is the run folder below `runs/` ("": derived from the parameters). Four tables keep the names of runs stable:
    `not_identifying` are the fields that do not change what is computed; `added_later` are fields that an earlier
    release did not have, with the value that reproduces it; `renamed_values` maps old spellings to new. A field with a
    default is part of a name only at another value, except those in `from_the_start`, which always are.

    The comment behind a field, or on the line above it, is its documentation (`describe`).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    stage: ClassVar[str]
    added_later: ClassVar[Mapping[str, Any]] = {
        **{"sync_batch_norm": False, "tensorboard": False, "stream": False, "workers": 2},
        **{"stem": "cifar", "class_weights": "none", "drop_last": True},
        **{"order": "alpha-first", "nesterov": False, "schedule": "epoch"},
    }
    from_the_start: ClassVar[frozenset[str]] = frozenset(
        {
            *("data_folder", "limit", "test_limit", "skip_damaged", "image_size", "validation_fraction"),
            *("split_seed", "crop_padding", "flip", "cutout", "part", "epsilon", "steps", "truncate", "terms"),
            *("iterations", "damping", "candidates", "hypernetwork", "activation", "hidden", "hidden_size"),
            *("rank", "embedding", "rest", "hypernetwork_input", "centred", "noise", "antithetic"),
            *("initialisation", "global_epochs", "global_scale", "learning_rate_min", "momentum"),
            *("weight_decay", "clip", "precision", "alpha_beta1", "alpha_beta2", "alpha_weight_decay"),
            *("alpha_scale", "schedule_epochs", "stop_when_skips", "discretise_epochs", "eigenvalue_epochs"),
            "log_every",
        }
    )
    renamed_values: ClassVar[Mapping[str, Mapping[str, str]]] = {"rest": {"own": "learned"}}
    not_identifying: ClassVar[frozenset[str]] = frozenset(
        {
            *("run", "device", "threads", "deterministic", "tensorboard", "stream", "workers"),
            *("checkpoint_epochs", "checkpoint_minutes", "keep_epochs", "keep_checkpoint"),
        }
    )
    run: Text  # run folder in runs/; "": interactive/<stage>/, named after the parameters

    @classmethod
    def identifying(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that determine what a run computes, as the first release spelled them."""
        first = {name: {new: old for old, new in renamed.items()} for name, renamed in cls.renamed_values.items()}
        kept = {k: v for k, v in respelled(values, first).items() if k not in cls.not_identifying}
        optional = {k: field for k, field in cls.model_fields.items() if not field.is_required()}
        later = {k: f.default for k, f in optional.items() if k not in cls.from_the_start} | dict(cls.added_later)
        return {k: v for k, v in kept.items() if not (k in later and v == later[k])}

    def slug(self) -> str:
        """Return a short readable name of the run; the hash of `identity` makes it unique."""
        return self.stage


def respelled(values: Mapping[str, Any], renamed: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return parameters with the words of a table of `renamed` values replaced."""
    return {k: renamed[k].get(v, v) if k in renamed and isinstance(v, str) else v for k, v in values.items()}


class Machine(BaseModel):
    """Where and how a run computes."""

    # auto | cpu | cuda | cuda:1 | mps
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = "auto"
    threads: CountOrZero = 0  # CPU threads, at most the cores; 0: PyTorch's choice
    deterministic: bool = False  # on a GPU: sums in a fixed order, so that runs repeat bit for bit; slower


class Images(BaseModel):
    """Which images, which part of them, and their augmentation (hdarts.data)."""

    data: Annotated[Text, Field(min_length=1)]  # name of an image set, or a folder of images or Parquet files
    data_folder: Text = ""  # where image sets are kept; "": $HDARTS_DATA or ~/.cache/hdarts
    limit: CountOrZero = 0  # class-balanced subset of the training images; 0: all
    skip_damaged: bool = False  # leave out and count unreadable images, instead of stopping at the first
    image_size: Annotated[Integer, Field(ge=0, le=4096)] = 0  # resize to this side, pixels; 0: unchanged
    image_channels: Literal["auto", 1, 3] = "auto"  # 1: grey; auto: 3 unless all training images are grey
    # what the validation part of a set is used for, if it has one
    validation_part: Literal["unused", "outer", "test"] = "unused"
    test_fraction: Fraction = 0.0  # of the training images, for testing; 0: the test part, or a fifth of a flat folder
    stream: bool = False  # read images when needed, for a folder larger than memory; same batches
    workers: Annotated[int, Field(ge=0, le=1024)] = 2  # stream: processes that read ahead; 0: the main one
    crop_padding: CountOrZero = 1  # random crop after zero padding, pixels; the thesis has 4
    flip: bool = False  # mirror half of the images (not for digits)
    cutout: CountOrZero = 0  # side of the square that is cut out, pixels

    def source(self) -> dict[str, Any]:
        """Return the arguments of `hdarts.data.load` that say which images a run reads, by name."""
        names = ("limit", "test_limit", "skip_damaged", "image_size", "image_channels", "stream", "workers")
        names += ("validation_part", "test_fraction", "validation_fraction", "split_seed")
        found = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {"folder": self.data_folder, **found}


class Checkpoints(BaseModel):
    """When a loop saves, which epochs it keeps, whether a finished run keeps its last checkpoint, and event files."""

    checkpoint_epochs: Count = 1  # epochs between checkpoints
    checkpoint_minutes: Positive = 10.0  # and within an epoch, after this many minutes
    keep_epochs: list[CountOrZero] = []  # epochs whose checkpoints are kept, for notebook 04
    keep_checkpoint: bool = False  # keep the last checkpoint, and with it the weights, of a finished run
    tensorboard: bool = False  # write event files for TensorBoard to the run folder; needs hdarts[tensorboard]


class Network(BaseModel):
    """Sizes of a network."""

    # imagenet: three convolutions of stride 2, for images of 64 pixels and more
    stem: Literal["cifar", "imagenet"] = "cifar"
    channels: Annotated[Integer, Field(ge=1, le=4096)]  # channels C of the first cell
    layers: Annotated[Integer, Field(ge=1, le=1024)]  # cells; of nasbench201, cells per stage (of three)

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

    epochs: Count  # passes over the training images
    batch_size: Annotated[Integer, Field(ge=2), BeforeValidator(_no_auto)]  # images per batch
    learning_rate: Positive  # of the weights, at the start of the cosine schedule
    learning_rate_min: NotNegative = 0.0  # at the end of the schedule
    momentum: Fraction = 0.9  # of SGD on the weights
    weight_decay: NotNegative = 0.0003  # of SGD on the weights
    clip: Positive = 5.0  # largest joint norm of the gradient of the weights
    precision: Precision = "float32"  # of activations; bfloat16 saves memory and time on a GPU
