"""Images: from any source to tensors, splits and batches.

`load` reads a known set, a file of images and labels, or a folder of images by class; `Batches` makes shuffled,
augmented, normalised batches on the device of the images, and `in_order` yields all of them once. Results depend on
the arguments only, also with worker processes (`streaming`). The test part is not opened unless requested.
"""

from hdarts.data.batches import Augmentation, Batches, count_batches, in_order
from hdarts.data.request import DatasetInfo, dataset_info
from hdarts.data.sources import data_folders
from hdarts.data.splits import Images, Splits, load

__all__ = [
    "Augmentation",
    "Batches",
    "DatasetInfo",
    "Images",
    "Splits",
    "count_batches",
    "data_folders",
    "dataset_info",
    "in_order",
    "load",
]
