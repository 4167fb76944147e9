"""Sizes, colours and damage of images and of Parquet files."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.images import encode, picture, write_images, write_parquet

from hdarts.data import load
from hdarts.data.decode import MAX_BYTES, MAX_PIXELS, DamagedImage, decode
from hdarts.errors import ParameterError


def test_images_of_different_sizes_are_refused_by_name_and_made_equal_by_image_size(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    odd = tmp_path / "bee" / "zz.png"
    odd.write_bytes(encode(picture(7, 8, 12)))
    with pytest.raises(ParameterError, match=r"\.png is 6x6, .*zz\.png is 12x8; image_size makes them equal"):
        load(str(tmp_path), test=True)
    splits = load(str(tmp_path), image_size=4, test=True)
    assert splits.train.shape == (3, 4, 4)


def test_resizing_takes_the_centred_square_and_averages(tmp_path: Path) -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:8], wide[:, 8:12] = 80, 240  # the centred square: left half 80, right half 240
    blobs: list[bytes | None] = [encode(wide)] * 2
    write_parquet(tmp_path / "train.parquet", blobs, [0, 1])
    pixels = load(str(tmp_path), image_size=4, validation_fraction=0.0).train.pixels[0, 0].int()
    assert (pixels == pixels[0]).all() and pixels[0, 0] == 80 and pixels[0, 3] == 240
    checkers = np.indices((8, 8)).sum(0) % 2 * np.uint8(255)
    write_parquet(tmp_path / "train.parquet", [encode(checkers.astype(np.uint8))] * 2, [0, 1])
    pixels = load(str(tmp_path), image_size=4, validation_fraction=0.0).train.pixels.int()
    assert ((pixels - 127.5).abs() < 1).all()  # plain subsampling would leave 0 or 255


def test_grey_images_stay_grey_and_become_colour_among_coloured_ones(tmp_path: Path) -> None:
    grey = [encode(picture(seed, channels=1)) for seed in range(4)]
    write_parquet(tmp_path / "train.parquet", [*grey], [0, 1, 0, 1])
    assert load(str(tmp_path), validation_fraction=0.0).train.shape == (1, 6, 6)
    write_parquet(tmp_path / "train.parquet", [*grey[:2], encode(picture(9)), grey[3]], [0, 1, 0, 1])
    write_parquet(tmp_path / "test.parquet", [*grey[:2]], [0, 1])
    splits = load(str(tmp_path), validation_fraction=0.0, test=True)
    assert splits.test is not None
    for part, row, seed in ((splits.train, 0, 0), (splits.train, 3, 3), (splits.test, 1, 1)):
        assert all(np.array_equal(channel.numpy(), picture(seed, channels=1)) for channel in part.pixels[row])
    assert np.array_equal(splits.train.pixels[2].permute(1, 2, 0).numpy(), picture(9))


def test_coloured_test_images_are_refused_where_training_images_are_grey(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(picture(s, channels=1)) for s in range(4)], [0, 1, 0, 1])
    write_parquet(tmp_path / "test.parquet", [encode(picture(1)), encode(picture(2))], [0, 1])
    with pytest.raises(ParameterError, match=r"training images are 1x6x6 .* but test images 3x6x6"):
        load(str(tmp_path), test=True)


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file that claims to be `width x height`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


DAMAGE = {
    "empty": (b"", "is empty, it contains no image"),
    "text": (b"GIF? no, a few words", "is not an image of format"),
    "truncated": (encode(picture(1, 40, 40))[:700], "cannot be read as an image"),
    "truncated JPEG": (encode(picture(1, 40, 40), "JPEG")[:600], "cannot be read as an image"),
    "flipped bit": (encode(picture(1))[:60] + b"\x00\xff" + encode(picture(1))[62:], "cannot be read as an image"),
    "large": (bomb(8193, 8193), f"cannot be read as an image: 8193x8193 pixels are more than {MAX_PIXELS}"),
    "larger": (bomb(10_000, 10_000), r"cannot be read as an image: .*\(100000000 pixels\)"),
    "bomb": (bomb(60_000, 60_000), "cannot be read as an image: .* decompression bomb"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n", "is not an image of format"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_by_name_or_left_out_and_counted(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blob, message = DAMAGE[kind]
    write_images(tmp_path / "train", 3)
    (tmp_path / "train" / "ant" / "01.png").write_bytes(blob)
    with pytest.raises(ParameterError, match=rf"ant/01\.png: {message}"):
        load(str(tmp_path))
    splits = load(str(tmp_path), validation_fraction=0.0, skip_damaged=True)
    assert splits.skipped == 1 and splits.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert np.array_equal(splits.train.pixels[1].permute(1, 2, 0).numpy(), picture(2))
    assert "left out 1 damaged images, the first is" in capsys.readouterr().err


def test_a_file_too_large_for_an_image_is_refused_without_reading_it(tmp_path: Path) -> None:
    write_images(tmp_path, 5)
    with (tmp_path / "ant" / "01.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ParameterError, match=rf"ant/01\.png: {MAX_BYTES + 1} bytes are more than {MAX_BYTES}"):
        load(str(tmp_path), test=True)


def test_a_damaged_or_missing_image_in_parquet_is_named_by_file_and_row(tmp_path: Path) -> None:
    good = [encode(picture(seed)) for seed in range(7)]
    write_parquet(tmp_path / "train-0.parquet", [*good], [0] * 7)
    write_parquet(tmp_path / "train-1.parquet", [*good[:6], None], [1] * 7)
    with pytest.raises(ParameterError, match=r"train-1\.parquet, row 6: is empty"):
        load(str(tmp_path))
    assert len(load(str(tmp_path), validation_fraction=0.0, skip_damaged=True).train) == 13


def test_a_set_in_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [b"no image"] * 2, [0, 1])
    with pytest.raises(ParameterError, match=r"no image could be read: .*train\.parquet, row 0"):
        load(str(tmp_path), skip_damaged=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b"x"]}, "has no column of labels, only img; name one of them label, fine_label, "),
        ({"label": [0]}, "has no column of images, only label; name one of them img, image, "),
        ({"img": [b"x"], "label": [0.5]}, "column label has type double and 0 empty rows; each row needs an"),
        ({"img": [b"x", b"x"], "label": [0, None]}, "column label has type int64 and 1 empty rows; each row needs an"),
        ({"img": [b"x"], "label": [-1]}, "label -1 is not one of 0 to"),
        ({"img": [3], "label": [0]}, "column img has to contain encoded images or paths, not int64"),
    ],
)
def test_parquet_of_another_layout_is_refused(tmp_path: Path, columns: dict[str, list], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(ParameterError, match=rf"train\.parquet: {message}"):
        load(str(tmp_path))


def test_a_damaged_label_without_class_names_does_not_create_a_million_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(picture(s)) for s in range(2)], [0, 10**12])
    with pytest.raises(ParameterError, match="label 1000000000000 is not one of 0 to 65535"):
        load(str(tmp_path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
def test_flipped_bytes_in_an_image_give_pixels_or_one_sentence(kind: str) -> None:
    good, random = encode(picture(1, 20, 20), kind), np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(good)
        for place in random.integers(0, min(len(good), 80), 3):
            damaged[place] = random.integers(256)
        try:
            outcomes.add(decode("picture", bytes(damaged)).dtype.name)
        except DamagedImage as error:
            outcomes.add(str(error)[:9])
    assert outcomes <= {"uint8", "picture: "} and "picture: " in outcomes


def test_flipped_bytes_in_a_parquet_file_give_images_or_one_sentence(parquet: Path) -> None:
    file, random = parquet / "train-0.parquet", np.random.default_rng(0)
    good, faults = file.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(good)
        damaged[-int(random.integers(1, 2000))] = random.integers(256)
        file.write_bytes(damaged)
        try:
            load(str(parquet), validation_fraction=0.0)
        except ParameterError as error:
            faults += 1
            assert "train-0.parquet" in str(error) and "\n" not in str(error)
    assert faults > 20


def test_a_truncated_parquet_file_is_named(parquet: Path) -> None:
    file = parquet / "train-1.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ParameterError, match=r"train-1\.parquet: cannot be read as Parquet"):
        load(str(parquet))
