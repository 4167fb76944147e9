"""hdarts.data: every source, its limits and faults, the splits, and the batches against a plain loop."""

import io
import itertools
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import ROOT
from helpers.images import encode, picture, write_images
from PIL import Image

from hdarts.data import Augmentation, Batches, Images, in_order, load
from hdarts.data.decode import MOST_BYTES, MOST_PIXELS, Damaged, decode
from hdarts.data.subsets import balanced_subset, stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator

REAL = Path(os.environ.get("HDARTS_DATA") or ROOT.parent / "shared" / "data")
real = pytest.mark.skipif(
    not (REAL / "cifar10" / "train-00000-of-00001.parquet").is_file(),
    reason="CIFAR-10 as Parquet is not in $HDARTS_DATA/cifar10",
)


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the data of this machine unless it names them."""
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "nothing"))


def write_parquet(
    file: Path, blobs: list[bytes | None], labels: list[int], names: list[str] | None = None, label: str = "label"
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"img": [{"bytes": blob, "path": None} for blob in blobs], label: labels})
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, file, row_group_size=5)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """24 training and 6 test images of 3 classes, the training part in two files of several row groups."""
    folder = tmp_path / "set"
    names = ["cat", "dog", "owl"]
    for part, seeds in (("train-0", range(14)), ("train-1", range(14, 24)), ("test-0", range(100, 106))):
        write_parquet(
            folder / f"{part}.parquet", [encode(picture(s), "WEBP") for s in seeds], [s % 3 for s in seeds], names
        )
    return folder


def some_images(count: int, channels: int = 3, size: int = 8) -> Images:
    pixels = torch.randint(0, 256, (count, channels, size, size), generator=generator(0, "pixels")).byte()
    scaled = pixels / 255
    return Images(pixels, torch.arange(count), scaled.mean((0, 2, 3)), scaled.std((0, 2, 3)))


def rows_of(part: Images | None) -> set[bytes]:
    assert part is not None
    return {image.numpy().tobytes() for image in part.pixels}


# Sources


def test_digits_are_1797_grey_images_with_a_fixed_fifth_held_out_for_testing() -> None:
    splits = load("digits", validation_fraction=0.0, test=True)
    assert splits.test is not None and splits.validation is None
    assert splits.train.shape == (1, 8, 8)
    assert (len(splits.train), len(splits.test)) == (1438, 359)
    assert splits.train.pixels.max() == 255 and splits.classes == tuple("0123456789")
    other = load("digits", split_seed=5, test=True)
    assert other.test is not None and torch.equal(other.test.pixels, splits.test.pixels)
    share = torch.bincount(splits.test.labels) / (
        torch.bincount(splits.train.labels) + torch.bincount(splits.test.labels)
    )
    assert (share - 0.2).abs().max() < 0.005


def test_generated_images_are_learnable_and_as_many_as_the_limit_says() -> None:
    splits = load("generated", limit=200, validation_fraction=0.5, test=True, test_limit=50, image_size=12)
    assert splits.validation is not None and splits.test is not None
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [100, 100, 50]
    assert splits.train.shape == (3, 12, 12)
    x, y = next(in_order(splits.train, 100))
    means = torch.stack([x[y == label].mean(0) for label in range(10)])
    for part in (splits.validation, splits.test):
        x, y = next(in_order(part, 100))
        nearest = torch.cdist(x.flatten(1), means.flatten(1)).argmin(1)
        assert (nearest == y).float().mean() > 0.9


def test_parquet_gives_every_image_and_label_of_all_files_and_the_class_names(parquet: Path) -> None:
    splits = load(str(parquet), validation_fraction=0.0, test=True)
    assert splits.test is not None
    assert splits.classes == ("cat", "dog", "owl") and splits.name == "set"
    assert splits.train.labels.tolist() == [seed % 3 for seed in range(24)]
    assert all(np.array_equal(splits.train.pixels[s].permute(1, 2, 0).numpy(), picture(s)) for s in range(24))
    assert np.array_equal(splits.test.pixels[5].permute(1, 2, 0).numpy(), picture(105))


def test_one_parquet_file_fine_labels_and_missing_names(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "train-a.parquet", [encode(picture(s)) for s in range(4)], [0, 1, 2, 0], label="fine_label"
    )
    splits = load(str(tmp_path / "train-a.parquet"), validation_fraction=0.0)
    assert splits.classes == ("0", "1", "2") and splits.train.labels.tolist() == [0, 1, 2, 0]


def test_only_the_wanted_rows_of_a_parquet_file_are_decoded(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    whole, real_open = load(str(parquet), validation_fraction=0.0), Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **more: opened.append(1) or real_open(*args, **more))
    splits = load(str(parquet), limit=6, validation_fraction=0.0)
    assert len(opened) == 6 and torch.bincount(splits.train.labels).tolist() == [2, 2, 2]
    assert rows_of(splits.train) < rows_of(whole.train)
    labelled = {p.numpy().tobytes(): int(y) for p, y in zip(whole.train.pixels, whole.train.labels, strict=True)}
    pairs = zip(splits.train.pixels, splits.train.labels, strict=True)
    assert all(labelled[p.numpy().tobytes()] == int(y) for p, y in pairs)


def test_cifar10_by_name_prefers_parquet_in_the_data_folder(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.rename(parquet.parent / "cifar10")
    monkeypatch.setenv("HDARTS_DATA", str(parquet.parent))
    assert len(load("cifar10", validation_fraction=0.0).train) == 24
    monkeypatch.delenv("HDARTS_DATA")
    assert len(load("cifar10", folder=str(parquet.parent), validation_fraction=0.0).train) == 24


def test_folder_of_images_with_its_own_test_part(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / "test", 2)
    (tmp_path / "train" / "bee" / "notes.txt").write_text("not an image")
    splits = load(str(tmp_path), validation_fraction=0.0, test=True)
    assert splits.test is not None
    assert splits.classes == ("ant", "bee") and splits.train.labels.tolist() == [0] * 4 + [1] * 4
    assert np.array_equal(splits.train.pixels[5].permute(1, 2, 0).numpy(), picture(1001))
    assert splits.test.labels.tolist() == [0, 0, 1, 1]


def test_folder_of_images_without_test_part_holds_a_fixed_fifth_out(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 10)
    first = load("photos", folder=str(tmp_path), split_seed=1, test=True)
    second = load(str(tmp_path / "photos"), split_seed=2, test=True)
    assert first.test is not None and second.test is not None
    assert torch.equal(first.test.pixels, second.test.pixels)
    assert torch.bincount(first.test.labels).tolist() == [2, 2]
    parts = [rows_of(part) for part in (first.train, first.validation, first.test)]
    assert [len(part) for part in parts] == [8, 8, 4] and len(set.union(*parts)) == 20


class Torchvision:
    """Stands for a torchvision set that is in the folder named `root`."""

    def __init__(self, root: Path, **part: object) -> None:
        if not Path(root).is_dir():
            raise RuntimeError("Dataset not found")
        train = part in ({"train": True}, {"split": "train"})
        self.targets = self.labels = [0, 1] * (4 if train else 2)
        self.data = torch.stack([torch.from_numpy(picture(i, 5, 7, 1)) for i in range(len(self.targets))])


def test_torchvision_sets_come_in_their_three_layouts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Coloured(Torchvision):
        def __init__(self, root: Path, **part: object) -> None:
            super().__init__(root, **part)
            self.data = np.stack([picture(i, 5, 7) for i in range(len(self.targets))])

    class ChannelsFirst(Coloured):
        def __init__(self, root: Path, **part: object) -> None:
            super().__init__(root, **part)
            self.data = self.data.transpose(0, 3, 1, 2)

    for name, kind, channels in (
        ("FashionMNIST", Torchvision, 1),
        ("CIFAR10", Coloured, 3),
        ("SVHN", ChannelsFirst, 3),
    ):
        monkeypatch.setattr(f"torchvision.datasets.{name}", kind)
        known = {"FashionMNIST": "fashion_mnist"}.get(name, name.lower())
        splits = load(known, folder=str(tmp_path), validation_fraction=0.0, test=True)
        assert splits.test is not None and (len(splits.train), len(splits.test)) == (8, 4)
        assert splits.train.shape == (channels, 5, 7) and splits.train.labels.tolist() == [0, 1] * 4
        expected = picture(3, 5, 7, channels).reshape(5, 7, channels)
        assert np.array_equal(splits.train.pixels[3].permute(1, 2, 0).numpy(), expected)


def test_a_torchvision_set_is_downloaded_once_and_its_test_part_opened_on_request_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    class Remote(Torchvision):
        def __init__(self, root: Path, train: bool, download: bool = False) -> None:
            calls.append("download" if download else "train" if train else "test")
            if download:
                (root / "images").touch()
            super().__init__(root if (root / "images").is_file() else root / "missing", train=train)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Remote)
    load("cifar10", folder=str(tmp_path / "new"))
    assert calls == ["train", "download"]
    load("cifar10", folder=str(tmp_path / "new"))
    assert calls == ["train", "download", "train"]
    load("cifar10", folder=str(tmp_path / "new"), test=True)
    assert calls[3:] == ["train", "test"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_offline_the_message_says_what_to_put_where(
    name: str, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    for function in ("torchvision.datasets.utils._urlretrieve", "torchvision.datasets.utils._get_redirect_url"):
        monkeypatch.setattr(function, offline)
    with pytest.raises(ParameterError) as caught:
        load(name, folder=str(tmp_path / "data"))
    message = str(caught.value)
    assert all(word in message for word in (name, file, str(tmp_path / "data"), "HDARTS_DATA"))
    assert "unreachable" in message and "\n" not in message


# The test set stays closed


def test_the_test_part_of_parquet_is_not_opened_unless_asked_for(parquet: Path) -> None:
    (parquet / "test-0.parquet").write_bytes(b"damaged")
    assert load(str(parquet)).test is None
    with pytest.raises(ParameterError, match=r"test-0\.parquet: cannot be read as Parquet"):
        load(str(parquet), test=True)
    (parquet / "test-0.parquet").unlink()
    assert load(str(parquet)).test is None
    with pytest.raises(ParameterError, match="has no test part"):
        load(str(parquet), test=True)


def test_the_test_part_of_a_folder_is_not_opened_unless_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    assert load(str(tmp_path)).test is None
    with pytest.raises(ParameterError, match="has no test part"):
        load(str(tmp_path), test=True)
    write_images(tmp_path / "test", 2, classes=("ant", "wasp"))
    assert load(str(tmp_path)).test is None
    with pytest.raises(ParameterError, match="wasp is not a class of the training part, ant, bee"):
        load(str(tmp_path), test=True)


def test_the_held_out_images_of_a_folder_are_not_read_unless_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, 10)
    held_out = load(str(tmp_path), test=True).test
    files = {path: Image.open(path) for path in tmp_path.glob("*/*.png")}
    for path, image in files.items():
        if np.asarray(image).transpose(2, 0, 1).tobytes() in rows_of(held_out):
            path.write_bytes(b"damaged")
    assert len(load(str(tmp_path)).train) == 8
    with pytest.raises(ParameterError, match="is not an image"):
        load(str(tmp_path), test=True)


# Splits, subsets, statistics, digest


def test_the_split_is_class_balanced_disjoint_complete_and_a_function_of_the_split_seed(parquet: Path) -> None:
    first, again, other = (load(str(parquet), split_seed=seed) for seed in (1, 1, 2))
    assert first.validation is not None and again.validation is not None
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert torch.equal(first.validation.pixels, again.validation.pixels)
    assert rows_of(first.train) != rows_of(other.train)
    assert not rows_of(first.train) & rows_of(first.validation)
    assert len(rows_of(first.train) | rows_of(first.validation)) == 24
    assert torch.bincount(first.train.labels).tolist() == torch.bincount(first.validation.labels).tolist() == [4, 4, 4]
    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize(("fraction", "sizes"), [(0.25, (18, 6)), (0.75, (6, 18)), (0.0, (24, 0))])
def test_the_validation_part_is_the_fraction_asked_for(parquet: Path, fraction: float, sizes: tuple[int, int]) -> None:
    splits = load(str(parquet), validation_fraction=fraction)
    validation = splits.validation
    assert (len(splits.train), len(validation) if validation else 0) == sizes


def test_a_split_of_uneven_classes_keeps_their_shares() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [2] * 7)[torch.randperm(147, generator=generator(0, "order"))]
    rest, chosen = stratified_split(labels, 0.3, generator(0, "split"))
    assert sorted(rest.tolist() + chosen.tolist()) == list(range(147)) and len(chosen) == round(0.3 * 147)
    for label, count in ((0, 30), (1, 12), (2, 2.1)):
        assert abs((labels[chosen] == label).sum() - count) <= 1


def test_a_subset_has_equally_many_of_each_class_and_a_smaller_one_lies_within_a_larger() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [2] * 7)
    subsets = [balanced_subset(labels, count, generator(3, "subset")) for count in (12, 30, 60)]
    assert torch.bincount(labels[subsets[0]]).tolist() == [4, 4, 4]
    assert torch.bincount(labels[subsets[2]]).tolist() == [27, 26, 7]
    assert set(subsets[0].tolist()) < set(subsets[1].tolist()) < set(subsets[2].tolist())
    assert set(subsets[0].tolist()) != set(balanced_subset(labels, 12, generator(4, "subset")).tolist())


def test_the_limits_choose_the_same_images_whatever_the_split_seed(parquet: Path) -> None:
    first, second = (load(str(parquet), limit=12, split_seed=s, test=True, test_limit=3) for s in (1, 2))
    assert first.test is not None and second.test is not None and len(first.test) == 3
    assert rows_of(first.train) | rows_of(first.validation) == rows_of(second.train) | rows_of(second.validation)
    assert torch.equal(first.test.pixels, second.test.pixels)


def test_all_parts_are_normalised_by_the_training_parts_own_statistics(parquet: Path) -> None:
    splits = load(str(parquet), test=True)
    assert splits.validation is not None and splits.test is not None
    scaled = splits.train.pixels.double() / 255
    torch.testing.assert_close(splits.mean.double(), scaled.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(splits.std.double(), scaled.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)
    for part in (splits.train, splits.validation, splits.test):
        x, _ = next(in_order(part, 100))
        mean, std = (value.double()[:, None, None] for value in (splits.mean, splits.std))
        torch.testing.assert_close(x.double(), (part.pixels.double() / 255 - mean) / std, rtol=1e-6, atol=1e-6)


def test_a_channel_that_never_varies_is_normalised_to_zero(tmp_path: Path) -> None:
    blob = encode(np.full((2, 2), 200, dtype=np.uint8))
    write_parquet(tmp_path / "train-0.parquet", [blob] * 5000, [0, 1] * 2500)
    x, _ = next(in_order(load(str(tmp_path), validation_fraction=0.0).train, 10))
    assert x.abs().max() < 1e-6


def test_the_digest_names_the_pixels_and_labels_in_use(parquet: Path, tmp_path: Path) -> None:
    plain = load(str(parquet))
    assert len(plain.digest) == 64
    assert len({plain.digest, load(str(parquet), test=True).digest, load(str(parquet), limit=12).digest}) == 3
    labels = [seed % 3 for seed in range(24)]
    blobs: list[bytes | None] = [encode(picture(seed)) for seed in range(24)]
    write_parquet(tmp_path / "same" / "train-0.parquet", blobs, labels)
    assert load(str(tmp_path / "same")).digest == plain.digest
    write_parquet(tmp_path / "other" / "train-0.parquet", [encode(picture(99)), *blobs[1:]], labels)
    assert load(str(tmp_path / "other")).digest != plain.digest
    digests = set()
    for swapped in (labels, [labels[1], labels[0], *labels[2:]]):
        write_parquet(tmp_path / "other" / "train-0.parquet", blobs, swapped)
        digests.add(load(str(tmp_path / "other"), validation_fraction=0.0).digest)
    assert len(digests) == 2


# Sizes, colours, damage


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


def test_coloured_test_images_beside_grey_training_images_are_refused(tmp_path: Path) -> None:
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


SIXTEEN_BITS = encode(np.full((6, 6), 40000, np.uint16))
DAMAGE = {
    "empty": (b"", "holds no image, it is empty"),
    "text": (b"GIF? no, a few words", "is not an image of format"),
    "truncated": (encode(picture(1, 40, 40))[:700], "cannot be read as an image"),
    "truncated JPEG": (encode(picture(1, 40, 40), "JPEG")[:600], "cannot be read as an image"),
    "flipped bit": (encode(picture(1))[:60] + b"\x00\xff" + encode(picture(1))[62:], "cannot be read as an image"),
    "large": (bomb(8193, 8193), f"cannot be read as an image: 8193x8193 pixels are more than {MOST_PIXELS}"),
    "larger": (bomb(10_000, 10_000), r"cannot be read as an image: .*\(100000000 pixels\)"),
    "bomb": (bomb(60_000, 60_000), "cannot be read as an image: .* decompression bomb"),
    "16 bits": (SIXTEEN_BITS, "cannot be read as an image: mode I;16 is not 8 bits a channel"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n", "is not an image of format"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_and_refused_or_left_out_with_a_count(
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


def test_a_file_too_large_to_be_an_image_is_refused_unread(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    with (tmp_path / "ant" / "01.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ParameterError, match=rf"ant/01\.png: {MOST_BYTES + 1} bytes are more than {MOST_BYTES}"):
        load(str(tmp_path), test=True)


def test_a_damaged_or_missing_image_in_parquet_is_named_by_file_and_row(tmp_path: Path) -> None:
    good = [encode(picture(seed)) for seed in range(7)]
    write_parquet(tmp_path / "train-0.parquet", [*good], [0] * 7)
    write_parquet(tmp_path / "train-1.parquet", [*good[:6], None], [1] * 7)
    with pytest.raises(ParameterError, match=r"train-1\.parquet, row 6: holds no image"):
        load(str(tmp_path))
    assert len(load(str(tmp_path), validation_fraction=0.0, skip_damaged=True).train) == 13


def test_a_set_in_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [b"no image"], [0])
    with pytest.raises(ParameterError, match=r"no image could be read: .*train\.parquet, row 0"):
        load(str(tmp_path), skip_damaged=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b"x"]}, "has no column label or fine_label, only img"),
        ({"label": [0]}, "has no column img or image, only label"),
        ({"img": [b"x"], "label": ["cat"]}, "column label has to hold an integer in every row"),
        ({"img": [b"x", b"x"], "label": [0, None]}, "column label has to hold an integer in every row"),
        ({"img": [b"x"], "label": [-1]}, "label -1 is not one of 0 to"),
        ({"img": [3], "label": [0]}, "column img has to hold encoded images, not int64"),
    ],
)
def test_parquet_of_another_layout_is_refused(tmp_path: Path, columns: dict[str, list], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(ParameterError, match=rf"train\.parquet: {message}"):
        load(str(tmp_path))


def test_a_wild_label_without_class_names_makes_no_million_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(picture(s)) for s in range(2)], [0, 10**12])
    with pytest.raises(ParameterError, match="label 1000000000000 is not one of 0 to 65535"):
        load(str(tmp_path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
def test_flipped_bytes_in_an_image_lead_to_pixels_or_to_one_sentence(kind: str) -> None:
    good, random = encode(picture(1, 20, 20), kind), np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(good)
        for place in random.integers(0, min(len(good), 80), 3):
            damaged[place] = random.integers(256)
        try:
            outcomes.add(decode("picture", bytes(damaged)).dtype.name)
        except Damaged as error:
            outcomes.add(str(error)[:9])
    assert outcomes <= {"uint8", "picture: "} and "picture: " in outcomes


def test_flipped_bytes_in_a_parquet_file_lead_to_images_or_to_one_sentence(parquet: Path) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": -1}, "limit is -1 and has to be 0 or more"),
        ({"test_limit": -1}, "test_limit is -1"),
        ({"image_size": -4}, "image_size is -4"),
        ({"limit": 2}, r"limit of set is 2 and has to be 0 or from 3 \(one a class\) to 24 \(all images\)"),
        ({"limit": 25}, "limit of set is 25"),
        ({"test_limit": 7, "test": True}, "test_limit of set is 7"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0 and has to be from 0 to below 1"),
        ({"validation_fraction": -0.1}, "validation_fraction is -0.1"),
        ({"validation_fraction": 0.01}, "validation_fraction 0.01 of 24 images leaves no validation part"),
        ({"validation_fraction": 0.99}, "validation_fraction 0.99 of 24 images leaves no training part"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    ],
)
def test_impossible_values_are_refused_by_name(parquet: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        load(str(parquet), **arguments)


def test_an_unknown_set_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'cifar11' is unknown: give one of digits, generated, cifar10"):
        load("cifar11")
    with pytest.raises(ParameterError, match=r"holds neither train-\*\.parquet nor folders of images"):
        load(str(tmp_path))
    write_images(tmp_path, 1)
    (tmp_path / "cow").mkdir()
    with pytest.raises(ParameterError, match="cow: holds no image"):
        load(str(tmp_path))


# Batches


def by_loop(images: Images, rows: list[int], augmentation: Augmentation, draws: torch.Tensor) -> torch.Tensor:
    """The recipe of DARTS, one image and one pixel at a time, in float64."""
    channels, height, width = images.shape
    pad, side = augmentation.crop_padding, augmentation.cutout
    result = torch.empty(len(rows), channels, height, width, dtype=torch.float64)
    for b, row in enumerate(rows):
        top, left, mirrored, y, x = draws[:, b].tolist()
        padded = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=torch.uint8)
        padded[:, pad : pad + height, pad : pad + width] = images.pixels[row]
        image = padded[:, top : top + height, left : left + width]
        image = image.flip(2) if mirrored else image
        for channel in range(channels):
            mean, std = images.mean[channel].double(), images.std[channel].double()
            result[b, channel] = (image[channel].double() / 255 - mean) / std
        if side:
            result[b, :, max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = 0
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(3, True, 4),
        Augmentation(2, False, 0),
        Augmentation(0, True, 0),
        Augmentation(0, False, 6),
    ],
)
def test_augmented_batches_equal_a_plain_loop_over_images(channels: int, augmentation: Augmentation) -> None:
    images = some_images(40, channels)
    batches = Batches(images, 20, augmentation)
    for step, (x, rows) in enumerate(batches.epoch(1, "train", 2)):  # the label of an image is its row
        draws = augmentation.draw(20, 8, 8, generator(1, "train", "augmentation", 2, step))
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert (x.dtype, rows.dtype) == (torch.float32, torch.int64)
        expected = by_loop(images, rows.tolist(), augmentation, draws)
        torch.testing.assert_close(x.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_draws_reach_every_shift_both_mirrors_and_every_centre() -> None:
    top, left, mirrored, row, column = Augmentation(2, True, 4).draw(2000, 5, 7, generator(0, "draws"))
    assert top.unique().tolist() == left.unique().tolist() == [0, 1, 2, 3, 4]
    assert mirrored.unique().tolist() == [0, 1] and abs(mirrored.double().mean() - 0.5) < 0.05
    assert row.unique().tolist() == list(range(5)) and column.unique().tolist() == list(range(7))
    assert not Augmentation(2, False, 4).draw(100, 5, 7, generator(0, "draws"))[2].any()


def test_a_cutout_of_odd_side_has_that_side() -> None:
    augmentation = Augmentation(cutout=3)
    draws = torch.tensor([0, 0, 0, 4, 5])[:, None]
    zeros = augmentation.cut(torch.ones(1, 8, 8, 1), draws)[0, :, :, 0] == 0
    assert zeros.sum() == 9 and zeros[3:6, 4:7].all()


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own() -> None:
    batches = Batches(some_images(30), 10)
    passes = {e: [int(y) for _, labels in batches.epoch(4, "train", e) for y in labels] for e in (0, 1)}
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(30)) and passes[0] != passes[1]
    for seed, purpose in ((5, "train"), (4, "validation")):
        assert [int(y) for _, labels in batches.epoch(seed, purpose, 0) for y in labels] != passes[0]


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_a_pass_from_a_later_step_yields_exactly_the_rest_of_the_whole_pass(start: int) -> None:
    batches = Batches(some_images(43), 10, Augmentation(2, True, 4))
    whole = list(batches.epoch(7, "train", 3))
    rest = list(batches.epoch(7, "train", 3, start))
    assert len(whole) == len(batches) == 4 and len(rest) == 4 - start
    for (x, y), (x_rest, y_rest) in zip(whole[start:], rest, strict=True):
        assert torch.equal(x, x_rest) and torch.equal(y, y_rest)


def test_endless_batches_run_through_the_epochs() -> None:
    batches = Batches(some_images(30), 10, Augmentation(2, True, 4))
    epochs = [batch for epoch in range(3) for batch in batches.epoch(7, "outer", epoch)]
    found = itertools.islice(batches.endless(7, "outer"), len(epochs))
    for (x, y), (x_same, y_same) in zip(epochs, found, strict=True):
        assert torch.equal(x, x_same) and torch.equal(y, y_same)


def test_the_last_short_batch_is_kept_on_request_and_always_in_order() -> None:
    images = some_images(23)
    assert [len(y) for _, y in Batches(images, 10).epoch(0, "train", 0)] == [10, 10]
    kept = Batches(images, 10, drop_last=False)
    assert [len(y) for _, y in kept.epoch(0, "train", 0)] == [10, 10, 3] and len(kept) == 3
    assert torch.cat([y for _, y in in_order(images, 10)]).tolist() == list(range(23))
    assert [len(y) for _, y in in_order(images, 1000)] == [23]


def test_impossible_batches_are_refused_by_name() -> None:
    images = some_images(20)
    with pytest.raises(ParameterError, match="batch_size is 21 and has to be from 1 to 20, the number of images"):
        Batches(images, 21)
    with pytest.raises(ParameterError, match="batch_size is 0"):
        Batches(images, 0)
    with pytest.raises(ParameterError, match="batch_size is 0"):
        next(in_order(images, 0))
    with pytest.raises(ParameterError, match="crop_padding is -1 and has to be 0 or more"):
        Augmentation(crop_padding=-1)
    with pytest.raises(ParameterError, match="start is 3 and has to be from 0 to 2"):
        next(Batches(images, 10).epoch(0, "train", 0, start=3))


# The real thing


@real
def test_real_cifar10_is_balanced_and_looks_like_cifar10() -> None:
    splits = load("cifar10", folder=str(REAL), limit=1000, test=True, test_limit=200)
    assert splits.validation is not None and splits.test is not None
    assert splits.classes[0] == "airplane" and splits.classes[9] == "truck" and splits.train.shape == (3, 32, 32)
    for part, count in ((splits.train, 50), (splits.validation, 50), (splits.test, 20)):
        assert torch.bincount(part.labels).tolist() == [count] * 10
    published = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]])  # mean, std of all 50,000
    assert (torch.stack([splits.mean, splits.std]) - published).abs().max() < 0.02


@real
def test_real_cifar10_pixels_are_those_of_the_file() -> None:
    splits = load("cifar10", folder=str(REAL), limit=20, validation_fraction=0.0)
    table = pq.ParquetFile(REAL / "cifar10" / "train-00000-of-00001.parquet").read_row_group(0)
    labels, blobs = table["label"].to_numpy(), table["img"].to_pylist()
    decoded = {}
    for blob, label in zip(blobs[:500], labels, strict=False):
        pixels = np.asarray(Image.open(io.BytesIO(blob["bytes"])).convert("RGB"))
        decoded[pixels.transpose(2, 0, 1).tobytes()] = label
    whole = load("cifar10", folder=str(REAL), limit=3000, validation_fraction=0.0).train
    keys = [(image.numpy().tobytes(), int(label)) for image, label in zip(whole.pixels, whole.labels, strict=True)]
    common = [(key, label) for key, label in keys if key in decoded]
    assert len(common) > 10 and all(decoded[key] == label for key, label in common)
    assert rows_of(splits.train) < {key for key, _ in keys}


@real
def test_real_cifar100_has_fine_labels() -> None:
    if not (REAL / "cifar100" / "train-00000-of-00001.parquet").is_file():
        pytest.skip("CIFAR-100 as Parquet is not in $HDARTS_DATA/cifar100")
    splits = load("cifar100", folder=str(REAL), limit=200, image_size=16)
    assert len(splits.classes) == 100 and splits.classes[:2] == ("apple", "aquarium_fish")
    assert torch.bincount(splits.train.labels).tolist() == [1] * 100 and splits.train.shape == (3, 16, 16)
