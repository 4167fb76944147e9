"""Images as people have them: which pixels each form gives, and that what was done is counted."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT
from helpers.images import encode, picture, write_images
from PIL import Image

from hdarts.data import load
from hdarts.data.decode import DamagedImage, decode, fitted
from hdarts.data.raw import READS_HEIF
from hdarts.errors import ParameterError


def saved(image: Image.Image, kind: str = "PNG", **more) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return what a camera stores with an orientation of EXIF, which says where row 0 and column 0 belong.

    1: top and left; 2: top, right; 3: bottom, right; 4: bottom, left; 5: left, top; 6: right, top; 7: right, bottom;
    8: left, bottom.
    """
    turned = upright.swapaxes(0, 1) if orientation >= 5 else upright
    down, across = -1 if orientation in (3, 4, 6, 7) else 1, -1 if orientation in (2, 3, 7, 8) else 1
    return np.ascontiguousarray(turned[::down, ::across])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_by_exif(orientation: int, kind: str) -> None:
    upright = picture(1, 4, 7)
    exif = Image.Exif()
    exif[0x0112] = orientation
    more = {"lossless": True} if kind == "WEBP" else {}
    blob = saved(Image.fromarray(stored(upright, orientation)), kind, exif=exif, **more)
    noted = Counter[str]()
    assert np.array_equal(decode("picture", blob, noted), upright)
    if kind != "TIFF":  # which Pillow turns
        assert noted["turned upright by EXIF"] == (orientation > 1)


def test_damaged_exif_does_not_make_an_image_unreadable() -> None:
    blob = saved(Image.fromarray(picture(1)), exif=b"Exif\0\0no such thing")
    assert np.array_equal(decode("picture", blob), picture(1))


RAMP = np.array([[1000, 1500, 2000], [2500, 3000, 3000]])
RAMP_8 = np.array([[0, 64, 128], [191, 255, 255]])  # (x - 1000) / 2000 * 255, rounded


@pytest.mark.parametrize("kind", ["PNG u2", "TIFF u2", "TIFF i4", "TIFF f4", "PPM u2"])
def test_more_than_8_bits_are_scaled_by_the_range_of_the_file(kind: str) -> None:
    noted = Counter[str]()
    found = decode("picture", saved(Image.fromarray(RAMP.astype(kind[-2:])), kind[:-3]), noted)
    assert found[..., 0].tolist() == RAMP_8.tolist()
    assert noted["of more than 8 bits, scaled by the range of each"] == 1
    assert decode("picture", saved(Image.fromarray(np.full((2, 2), 40000, np.uint16)))).max() == 0
    with pytest.raises(DamagedImage, match="not finite"):
        decode("picture", saved(Image.fromarray(np.array([[np.nan, 1.0]], np.float32)), "TIFF"))


def coloured_png(values: np.ndarray) -> bytes:
    """Return a PNG of 16 bits per colour, which Pillow cannot write; `values` `(H, W, 3)`."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_of_colours_of_16_bits_the_upper_8_are_used_and_counted() -> None:
    noted, values = Counter[str](), np.arange(2 * 3 * 3).reshape(2, 3, 3) * 3000
    assert np.array_equal(decode("picture", coloured_png(values), noted), values >> 8)
    assert noted["of 16 bits per colour, the upper 8 used"] == 1
    big = saved(Image.frombytes("I;16B", (3, 2), RAMP.astype(">u2").tobytes()), "TIFF")
    assert decode("picture", big, noted)[..., 0].tolist() == RAMP_8.tolist()
    assert noted["of 16 bits per colour, the upper 8 used"] == 1


def transparent(mode: str, image: Image.Image) -> tuple[Image.Image, dict]:
    """Return an image whose left pixel is transparent, as a file of a mode, and how to save it."""
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(np.array([[0, 255, 102]], np.uint8)))
        return image, {}
    image = image.convert(mode, palette=Image.Palette.ADAPTIVE)
    return image, {"transparency": image.getpixel((0, 0))}


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_what_is_transparent_is_composited_on_white(mode: str) -> None:
    image = Image.fromarray(np.array([[40, 80, 200]], np.uint8)).convert("L" if mode in ("L", "LA") else "RGB")
    image, more = transparent(mode, image)
    noted = Counter[str]()
    pixels = decode("picture", saved(image, **more), noted)
    last = round(0.4 * 200 + 0.6 * 255) if "A" in mode else 200
    assert pixels[0, :, 0].tolist() == [255, 80, last]
    assert pixels.shape[2] == (1 if mode in ("L", "LA") else 3) and (pixels == pixels[..., :1]).all()
    assert noted["transparent, composited on white"] == 1


def test_opaque_alpha_palettes_cmyk_and_one_bit_give_their_colours() -> None:
    red = Image.fromarray(np.full((2, 2, 3), (255, 0, 0), np.uint8))
    noted = Counter[str]()
    for mode, kind in (("RGBA", "PNG"), ("P", "PNG"), ("P", "GIF"), ("CMYK", "TIFF")):
        assert (decode("picture", saved(red.convert(mode), kind), noted) == (255, 0, 0)).all()
    assert (decode("picture", saved(red.convert("CMYK"), "JPEG"), noted) - (254, 0, 0) < 3).all()
    bits = np.array([[True, False, True]])
    assert decode("picture", saved(Image.fromarray(bits)), noted)[..., 0].tolist() == [[255, 0, 255]]
    assert not +noted


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_used_and_counted(kind: str) -> None:
    frames = [Image.fromarray(np.full((3, 4, 3), level, np.uint8)) for level in (10, 200, 90)]
    more = {"lossless": True} if kind == "WEBP" else {}
    noted = Counter[str]()
    assert (
        decode("picture", saved(frames[0], kind, save_all=True, append_images=frames[1:], **more), noted) == 10
    ).all()
    assert noted["of several frames, the first used"] == 1
    noted.clear()
    decode("picture", saved(frames[0], kind), noted)
    assert not +noted


def test_channels_are_converted_as_asked_and_mixtures_counted(tmp_path: Path, capsys) -> None:
    write_images(tmp_path, 5)
    grey = picture(77, channels=1)
    (tmp_path / "ant" / "00.png").write_bytes(encode(grey))
    both = load(str(tmp_path), validation_fraction=0.0)
    assert both.train.shape == (3, 6, 6) and both.noted == {"grey among coloured": 1}
    assert "images grey among coloured: 1" in capsys.readouterr().err
    one = load(str(tmp_path), validation_fraction=0.0, image_channels=1)
    luma = fitted(picture(1), 1, 0, 0)[..., 0]
    weights = (picture(1) @ [0.299, 0.587, 0.114]).round()
    assert one.train.shape == (1, 6, 6) and (abs(luma - weights) <= 1).all()
    kept = {image[0].numpy().tobytes() for image in one.train.pixels}
    assert {grey.tobytes(), luma.tobytes()} <= kept
    three = load(str(write_images(tmp_path / "g", 3, ("a", "b"))), image_channels=3)
    assert three.train.shape[0] == 3
    with pytest.raises(ParameterError, match="image_channels is 2 and has to be auto, 1 or 3"):
        load(str(tmp_path), image_channels=2)  # type: ignore[arg-type]


def test_a_coloured_test_image_among_grey_ones_is_refused_unless_channels_are_chosen(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("test", 2)):
        write_images(tmp_path / part, count)
        for file in (tmp_path / part).rglob("*.png"):
            file.write_bytes(encode(picture(len(file.parts) + int(file.stem), channels=1)))
    (tmp_path / "test" / "bee" / "01.png").write_bytes(encode(picture(5)))
    with pytest.raises(ParameterError, match=r"are 1x6x6 .* 3x6x6, such as .*bee/01.png; .*image_channels \(1"):
        load(str(tmp_path), test=True)
    for channels in (1, 3):
        test = load(str(tmp_path), test=True, image_channels=channels).test  # type: ignore[arg-type]
        assert test is not None
        expected = fitted(picture(5), channels, 0, 0)
        assert np.array_equal(test.pixels[3].permute(1, 2, 0).numpy(), expected)


FAKE_HEIF = """
import io
from PIL import Image, PngImagePlugin

def register_heif_opener():
    def opened(file, name):
        file.seek(4)
        return PngImagePlugin.PngImageFile(io.BytesIO(file.read()))

    Image.register_open("HEIF", opened, lambda head: head[:4] == b"heif")
"""
LOADED = """
import json, sys
from hdarts.data import load
splits = load(sys.argv[1], image_size=6, validation_fraction=0.0, test_fraction=0.01)
print(json.dumps([splits.train.pixels.sum().item(), splits.unused]))
"""


@pytest.mark.parametrize("installed", [True, False])
def test_heic_is_read_where_pillow_heif_is_installed_and_counted_elsewhere(tmp_path: Path, installed: bool) -> None:
    if not installed and READS_HEIF:
        pytest.skip("pillow-heif is installed")
    write_images(tmp_path / "set", 4)
    total = sum(int(picture(seed).sum()) for seed in (0, 1, 2, 3, 1000, 1001, 1002, 1003))
    for seed in (50, 51):
        (tmp_path / "set" / "bee" / f"{seed}.HEIC").write_bytes(b"heif" + encode(picture(seed)))
        total += installed * int(picture(seed).sum())
    if installed:
        (tmp_path / "pillow_heif.py").write_text(FAKE_HEIF)
    around = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-c", LOADED, str(tmp_path / "set")]
    done = subprocess.run(command, env=around, capture_output=True, text=True)
    assert json.loads(done.stdout) == [total, {} if installed else {".heic": 2}], done.stderr
    assert ("2 .heic (pip install pillow-heif reads them)" in done.stderr) != installed
