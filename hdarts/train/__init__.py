"""Train the network of a genotype from scratch and test it (notebook 06).

`loop` is the training, read from top to bottom; `setup` makes what it works with from the parameters, `state` is what
it saves and resumes, `distributed` lets several processes share it.
"""

from hdarts.train.loop import test_network, train, train_epoch
from hdarts.train.result import finish, summary
from hdarts.train.setup import load_splits, new_network, prepare, read_genotype

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
