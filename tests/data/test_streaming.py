"""Images streamed from their files give the batches, tables and weights of images in memory, bit for bit."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.command import called
from helpers.images import encode, picture, write_images
from helpers.small_runs import EVALUATION, SEARCH, computed, contents, signal_at

from hdarts.data import Augmentation, Batches, Images, Splits, in_order, load
from hdarts.errors import ParameterError, Stopped

# this machine may have fewer cores
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """48 training and 20 test images of 2 classes: one larger than the others, one grey, one a JPEG."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HDARTS_PROGRESS", "none")
    write_images(tmp_path / "images" / "train", 24)
    write_images(tmp_path / "images" / "test", 10)
    ant = tmp_path / "images" / "train" / "ant"
    (ant / "03.png").write_bytes(encode(picture(3, 9, 14)))
    (ant / "04.png").write_bytes(encode(picture(4, channels=1)))
    (ant / "05.jpg").write_bytes(encode(picture(5, 12, 12), "JPEG"))
    (ant / "05.png").unlink()
    return tmp_path / "images"


def loaded(folder: Path, **more: Any) -> Splits:
    return load(str(folder), **{"image_size": 6, "test": True, **more})


def parts(splits: Splits) -> list[Images]:
    return [part for part in (splits.train, splits.validation, splits.test) if part is not None]


def described(splits: Splits) -> dict[str, Any]:
    return {name: value for name, value in splits.summary().items() if name != "origin"}


def same(one: Any, other: Any) -> bool:
    """Whether two passes yield equal tensors, in values, types and memory format."""
    pairs = list(zip(one, other, strict=True))
    each = [pair for one, other in pairs for pair in zip(one, other, strict=True)]
    return bool(each) and all(torch.equal(a, b) and (a.dtype, a.stride()) == (b.dtype, b.stride()) for a, b in each)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("more", [{}, {"limit": 20, "test_limit": 6}, {"validation_fraction": 0.0}])
def test_streamed_images_have_the_summary_and_labels_of_images_in_memory(
    folder: Path, workers: int, more: dict[str, Any]
) -> None:
    memory, stream = loaded(folder, **more), loaded(folder, stream=True, workers=workers, **more)
    assert described(stream) == described(memory) and len(parts(stream)) == len(parts(memory))
    for one, other in zip(parts(stream), parts(memory), strict=True):
        assert (len(one), one.shape) == (len(other), other.shape) and torch.equal(one.labels, other.labels)
        assert not isinstance(one.pixels, torch.Tensor)


def test_workers_need_no_shared_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers have 64 MB of it; a worker that writes more dies of a bus error."""

    def share(*_: Any, **__: Any) -> None:
        raise OSError("shared memory is full")

    for name in ("_share_fd_cpu_", "_share_filename_cpu_", "_new_using_fd_cpu", "_new_using_filename_cpu"):
        monkeypatch.setattr(torch.UntypedStorage, name, share)
    memory, stream = loaded(folder), loaded(folder, stream=True, workers=2)
    assert described(stream) == described(memory)
    for one, other in zip(parts(stream), parts(memory), strict=True):
        assert same(in_order(one, 7), in_order(other, 7))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("share", [(0, 1), (1, 3)])
def test_batches_equal_those_from_memory_from_any_step(folder: Path, workers: int, share: tuple[int, int]) -> None:
    memory, stream = loaded(folder), loaded(folder, stream=True, workers=workers)
    for one, other in zip(parts(stream), parts(memory), strict=True):
        streamed, held = (Batches(part, 5, Augmentation(2, True, 3), False, share=share) for part in (one, other))
        for start in (0, 2):
            assert same(streamed.epoch(3, "x", 1, start), held.epoch(3, "x", 1, start))
        assert same(in_order(one, 7), in_order(other, 7))


def test_grey_test_images_get_the_channels_of_the_training_part(folder: Path) -> None:
    for path in (folder / "test").rglob("*.png"):
        path.write_bytes(encode(picture(int(path.stem), channels=1)))
    memory, stream = loaded(folder), loaded(folder, stream=True)
    assert stream.digest == memory.digest
    assert same(in_order(parts(stream)[2], 4), in_order(parts(memory)[2], 4))


@pytest.mark.parametrize("kind", [SEARCH, EVALUATION], ids=["search", "evaluation"])
def test_a_run_stopped_within_an_epoch_equals_one_from_memory(
    kind: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch
) -> None:
    images = kind | {"data": str(folder), "image_size": 8, "limit": 0, "test_limit": 0, "batch_size": 6, "epochs": 2}
    images = {name: value for name, value in images.items() if kind is EVALUATION or name != "test_limit"}
    list(computed(images | {"run": "memory"}))
    with monkeypatch.context() as patch:
        signal_at(patch, 2, 1, signal.SIGTERM)
        with pytest.raises(Stopped):
            list(computed(images | {"run": "stream", "stream": True, "workers": 2}))
    list(computed(images | {"run": "stream", "stream": True, "workers": 1}))
    memory, stream = (contents(tmp_path / "runs" / name) for name in ("memory", "stream"))
    assert {name for name in memory if memory[name] != stream.get(name)} == {"params.yaml"}


def message(folder: Path, **more: Any) -> str:
    with pytest.raises(ParameterError) as refused:
        loaded(folder, **more)
    return str(refused.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"", b"no image", encode(picture(1))[:60]], ids=["empty", "foreign", "cut"])
def test_a_damaged_file_gives_the_message_of_images_in_memory(folder: Path, workers: int, content: bytes) -> None:
    bad = folder / "train" / "bee" / "07.png"
    bad.write_bytes(content)
    assert message(folder, stream=True, workers=workers) == message(folder) and str(bad) in message(folder)
    memory, stream = (loaded(folder, skip_damaged=True, **more) for more in ({}, {"stream": True, "workers": workers}))
    assert described(stream) == described(memory) and stream.skipped == 1
    assert same(in_order(stream.train, 7), in_order(memory.train, 7))


def test_different_sizes_give_the_message_of_images_in_memory(folder: Path) -> None:
    assert message(folder, image_size=0, stream=True) == message(folder, image_size=0)
    assert "images have different sizes: " in message(folder, image_size=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_damaged_after_loading_is_named_by_the_pass_that_reads_it(folder: Path, workers: int) -> None:
    train = loaded(folder, stream=True, workers=workers).train
    bad = Path(train.pixels.files[5].decode())
    bad.write_bytes(b"no image")
    with pytest.raises(ParameterError, match=f"{bad}: is not an image of format"):
        list(in_order(train, 4))
    bad.unlink()
    with pytest.raises(ParameterError, match=f"{bad}: No such file"):
        list(Batches(train, 4).epoch(0, "x", 0))


def test_a_file_whose_size_changed_is_named(tmp_path: Path) -> None:
    train = load(str(write_images(tmp_path / "images")), stream=True).train
    bad = Path(train.pixels.files[5].decode())
    bad.write_bytes(encode(picture(1, 9, 9)))
    with pytest.raises(ParameterError, match=f"{bad}: has another size than when the run started"):
        list(in_order(train, 4))


def test_streaming_from_other_sources_is_refused_before_a_kernel_starts(tmp_path: Path, monkeypatch, capsys) -> None:
    sentence = "stream: true is for images in single files; other sets are read into memory"
    assert message(Path("digits"), stream=True, image_size=0) == sentence
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    study = {"study": "tried", "stages": {"search": {"notebook": "03_search", "parameters": {"stream": True}}}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert called(monkeypatch, "run", tmp_path / "study.yaml") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.endswith(f": {sentence}\n") and not (tmp_path / "runs").exists()
