"""Train the network of a genotype from scratch and test it (notebook 06).

`loop` is the training, `setup` makes its parts from the parameters, `state` saves and resumes it, `distributed` shares
it among processes.
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
