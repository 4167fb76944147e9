"""Export the trained network of an evaluation as files, and classify images with it.

An export is a folder: weights.safetensors, network.json (how to build the network and prepare images for it),
network.onnx, and the model card README.md. Reading one needs neither the run nor the training images.
"""

from hdarts.workbook.export.format import Description, load
from hdarts.workbook.export.predict import Prediction, predict
from hdarts.workbook.export.write import export

__all__ = ["Description", "Prediction", "export", "load", "predict"]
