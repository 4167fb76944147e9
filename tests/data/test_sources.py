"""Sources of images: what they give, and that their test part stays closed."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import ROOT
from helpers.images import encode, picture, rows_of, write_images, write_parquet
from PIL import Image

from hdarts.data import in_order, load
from hdarts.errors import ParameterError

REAL = Path(os.environ.get("HDARTS_DATA") or ROOT.parent / "shared" / "data")


real = pytest.mark.skipif(
    not (REAL / "cifar10" / "train-00000-of-00001.parquet").is_file(),
    reason="CIFAR-10 as Parquet is not in $HDARTS_DATA/cifar10",
)


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


def test_generated_images_are_learnable_and_as_many_as_limit() -> None:
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


def test_only_the_requested_rows_of_a_parquet_file_are_decoded(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_folder_of_images_with_a_test_part(tmp_path: Path) -> None:
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
    """A torchvision data set that is present where the folder `root` exists."""

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
def test_offline_the_message_names_the_files_and_their_folder(
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


def test_the_test_part_of_parquet_is_not_opened_unless_requested(parquet: Path) -> None:
    (parquet / "test-0.parquet").write_bytes(b"damaged")
    assert load(str(parquet)).test is None
    with pytest.raises(ParameterError, match=r"test-0\.parquet: cannot be read as Parquet"):
        load(str(parquet), test=True)
    (parquet / "test-0.parquet").unlink()
    assert load(str(parquet)).test is None
    with pytest.raises(ParameterError, match="has no test part"):
        load(str(parquet), test=True)


def test_the_test_part_of_a_folder_is_not_opened_unless_requested(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4)
    assert load(str(tmp_path)).test is None
    with pytest.raises(ParameterError, match="has no test part"):
        load(str(tmp_path), test=True)
    write_images(tmp_path / "test", 2, classes=("ant", "wasp"))
    assert load(str(tmp_path)).test is None
    with pytest.raises(ParameterError, match="wasp is not a class of the training part, ant, bee"):
        load(str(tmp_path), test=True)


def test_the_held_out_images_of_a_folder_are_not_read_unless_requested(tmp_path: Path) -> None:
    write_images(tmp_path, 10)
    held_out = load(str(tmp_path), test=True).test
    files = {path: Image.open(path) for path in tmp_path.glob("*/*.png")}
    for path, image in files.items():
        if np.asarray(image).transpose(2, 0, 1).tobytes() in rows_of(held_out):
            path.write_bytes(b"damaged")
    assert len(load(str(tmp_path)).train) == 8
    with pytest.raises(ParameterError, match="is not an image"):
        load(str(tmp_path), test=True)


def test_an_unknown_set_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'cifar11' is unknown: use one of digits, generated, cifar10"):
        load("cifar11")
    with pytest.raises(ParameterError, match=r"contains neither train-\*\.parquet nor one folder of images per class"):
        load(str(tmp_path))
    write_images(tmp_path, 1)
    (tmp_path / "cow").mkdir()
    with pytest.raises(ParameterError, match="cow: contains no image"):
        load(str(tmp_path))


@real
def test_cifar10_is_balanced_and_has_the_published_statistics() -> None:
    splits = load("cifar10", folder=str(REAL), limit=1000, test=True, test_limit=200)
    assert splits.validation is not None and splits.test is not None
    assert splits.classes[0] == "airplane" and splits.classes[9] == "truck" and splits.train.shape == (3, 32, 32)
    for part, count in ((splits.train, 50), (splits.validation, 50), (splits.test, 20)):
        assert torch.bincount(part.labels).tolist() == [count] * 10
    published = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]])  # mean, std of all 50,000
    assert (torch.stack([splits.mean, splits.std]) - published).abs().max() < 0.02


@real
def test_cifar10_pixels_are_those_of_the_file() -> None:
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
def test_cifar100_has_fine_labels() -> None:
    if not (REAL / "cifar100" / "train-00000-of-00001.parquet").is_file():
        pytest.skip("CIFAR-100 as Parquet is not in $HDARTS_DATA/cifar100")
    splits = load("cifar100", folder=str(REAL), limit=200, image_size=16)
    assert len(splits.classes) == 100 and splits.classes[:2] == ("apple", "aquarium_fish")
    assert torch.bincount(splits.train.labels).tolist() == [1] * 100 and splits.train.shape == (3, 16, 16)
