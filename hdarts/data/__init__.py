"""Images: from whatever holds them to tensors, splits and batches.

`load` reads a named set, Parquet files or a folder of images by class; `Batches` makes shuffled, augmented, normalised
batches of them on their device, and `in_order` is the plain pass of an evaluation. Everything is a function of its
arguments, also where worker processes read (`stream`): no state, and the test set stays closed unless asked for.
"""

from hdarts.data.batches import Augmentation, Batches, in_order
from hdarts.data.sources import data_folders
from hdarts.data.splits import DatasetInfo, Images, Splits, dataset_info, load, split_sizes

__all__ = [
    "Augmentation",
    "Batches",
    "DatasetInfo",
    "Images",
    "Splits",
    "data_folders",
    "dataset_info",
    "in_order",
    "load",
    "split_sizes",
]
