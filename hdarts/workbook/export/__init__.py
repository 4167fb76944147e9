"""What was found, for use elsewhere: the trained network of an evaluation as files, and what it says of images.

An export is a folder: weights.safetensors, network.json (how to build the network and prepare images for it),
network.onnx, and the model card README.md. Reading one needs neither the run nor the training images.
"""

from hdarts.workbook.export.files import Description, load, needed
from hdarts.workbook.export.predict import Prediction, predict
from hdarts.workbook.export.run import export

__all__ = ["Description", "Prediction", "export", "load", "needed", "predict"]
