"""Convert a network to an ONNX graph, and compare what the two compute."""

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from hdarts.errors import ParameterError
from hdarts.workbook.export.format import require

OPSET, IR_VERSION = 18, 8  # both of ONNX 1.13 (2022): read by onnxruntime 1.14 (2023) and later
TOLERANCE = 1e-4  # of logits, relative to the largest where that is above 1


class Logits(nn.Module):
    """The main classifier without auxiliary head: images `(N, C, H, W)`, normalised, to logits `(N, classes)`."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)[0]


def to_onnx(network: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """Return the graph of a network in evaluation mode: `images` to `logits`, for any number of images of `shape`.

    The exporter writes its newest IR version, which older runtimes refuse, and notes with paths of this machine.
    """
    onnx, _ = require("onnx", "onnxscript")
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the exporter's code
        program = torch.onnx.export(
            Logits(network).eval(),
            (torch.zeros(2, *shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: batch}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    model.ir_version = IR_VERSION
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")  # which IR version 8 has in the model alone
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def largest_difference(graph: bytes, network: nn.Module, shape: tuple[int, int, int]) -> float | None:
    """Return the largest difference between logits of graph and network on noise; None without onnxruntime.

    Relative to the largest logit where that is above 1. Raises `ParameterError` above `TOLERANCE`.
    """
    if find_spec("onnxruntime") is None:
        return None
    (runtime,) = require("onnxruntime")
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in (1, 3):
        images = torch.randn(count, *shape, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = network(images)[0]
        logits = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        difference = float((logits - expected).abs().max()) / max(1.0, float(expected.abs().max()))
        if not difference <= TOLERANCE:
            raise ParameterError(f"the ONNX graph differs from the network by {difference:.2g}, more than {TOLERANCE}")
        largest = max(largest, difference)
    return largest
