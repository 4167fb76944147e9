"""Small random image files."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hdarts.data import Images


def picture(seed: int, height: int = 6, width: int = 6, channels: int = 3) -> np.ndarray:
    """Return random pixels `(H, W, 3)`, or `(H, W)` for one channel."""
    shape = (height, width, channels) if channels == 3 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, lossless=True)
    return stream.getvalue()


def write_images(folder: Path, count: int = 10, classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    """Write `count` images for each class into its folder."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / name / f"{i:02}.png").write_bytes(encode(picture(1000 * label + i)))
    return folder


def write_parquet(
    file: Path,
    blobs: list[bytes | None],
    labels: list[int],
    names: list[str] | None = None,
    label: str = "label",
    rows_per_group: int = 5,
) -> None:
    """Write encoded images and labels in the Hugging Face layout."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"img": [{"bytes": blob, "path": None} for blob in blobs], label: labels})
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file, row_group_size=rows_per_group)


def rows_of(part: Images | None) -> set[bytes]:
    """Return the set of images, as bytes of their pixels."""
    assert part is not None
    return {image.numpy().tobytes() for image in part.pixels}
