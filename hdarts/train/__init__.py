"""The training of a genotype's network from scratch, and its test (notebook 06).

`loop` is the whole training, read from top to bottom; `setup` makes what it works on from the parameters.
"""

from hdarts.train.loop import prepare, test_network, train, train_epoch
from hdarts.train.result import finish, summary
from hdarts.train.setup import load_splits, new_network, read_genotype

__all__ = [
    "finish",
    "load_splits",
    "new_network",
    "prepare",
    "read_genotype",
    "summary",
    "test_network",
    "train",
    "train_epoch",
]
