"""The training of a genotype's network from scratch, and its test (notebook 06).

`loop` is the whole training, read from top to bottom; `parts` makes what it works on from the parameters.
"""

from hdarts.train.loop import evaluate, prepare, train, train_epoch
from hdarts.train.parts import load_splits, new_network, read_genotype

__all__ = ["evaluate", "load_splits", "new_network", "prepare", "read_genotype", "train", "train_epoch"]
