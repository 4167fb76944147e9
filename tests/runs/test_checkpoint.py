"""Checkpoints: saved states are read back, damaged files are renamed, those of other runs are refused."""

import io
import json
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

from hdarts.errors import ParameterError
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import NEWEST, PREVIOUS, DamagedCheckpoint, load, read, save
from hdarts.runs.run import tidy

OWNER = "0123abcd"


def saved(folder: Path, *epochs: int) -> Path:
    for epoch in epochs:
        save(folder, {"epoch": epoch, "w": torch.full((50,), float(epoch))}, OWNER)
    return folder / NEWEST


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_tensors_and_plain_values_are_read_back_unchanged(tmp_path):
    state = {
        "double": torch.randn(3, 4, dtype=torch.float64),
        "half": torch.randn(5).bfloat16(),
        "empty": torch.zeros(0, 2),
        "generator": torch.Generator().get_state(),
        "plain": [1, 2.5, "text", None, True, (1, -0.0), {3: [10**30, float("inf")]}],
        "rows": [{"epoch": 1, "loss": 0.1}],
        "ordered": OrderedDict(a=torch.ones(2)),
    }
    save(tmp_path, state, OWNER)
    assert same(load(tmp_path, OWNER), state)


def test_a_network_and_its_optimiser_are_read_back(tmp_path):
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.randn(4, 3)).sum().backward()
    optimiser.step()
    save(tmp_path, {"network": network.state_dict(), "optimiser": optimiser.state_dict()}, OWNER)
    state = load(tmp_path, OWNER)
    assert state is not None
    assert same(dict(network.state_dict()), dict(state["network"]))
    assert same(optimiser.state_dict(), state["optimiser"])


def test_the_newest_is_read_and_the_previous_one_is_kept(tmp_path):
    saved(tmp_path, 1, 2, 3)
    assert [read(tmp_path / name)["epoch"] for name in (NEWEST, PREVIOUS)] == [3, 2]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([NEWEST, PREVIOUS])


def test_the_same_state_is_the_same_file(tmp_path):
    first = saved(tmp_path, 1).read_bytes()
    assert saved(tmp_path, 1).read_bytes() == first


def test_a_run_that_never_saved_has_no_state(tmp_path):
    assert load(tmp_path, OWNER) is None


def test_a_run_killed_while_it_wrote_the_newest_resumes_from_the_previous_one(tmp_path):
    saved(tmp_path, 1, 2).unlink()
    assert read(tmp_path / PREVIOUS)["epoch"] == 1
    state = load(tmp_path, OWNER)
    assert state is not None
    assert state["epoch"] == 1


def test_named_checkpoints_stay_when_others_rotate_or_are_removed(tmp_path):
    save(tmp_path, {"epoch": 1}, OWNER, "epoch-1")
    saved(tmp_path, 2, 3)
    tidy(Namespace(keep_checkpoint=False), tmp_path)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.epoch-1.pt"]
    assert read(tmp_path / "checkpoint.epoch-1.pt", OWNER) == {"epoch": 1}
    tidy(Namespace(keep_checkpoint=False), tmp_path)  # type: ignore[arg-type]


def test_a_named_checkpoint_is_written_before_the_newest(tmp_path, monkeypatch):
    saved(tmp_path, 1)
    written = []
    monkeypatch.setattr(checkpoint, "write_atomic", lambda path, content: written.append(path.name))
    save(tmp_path, {"epoch": 2}, OWNER, "epoch-2")
    assert written == ["checkpoint.epoch-2.pt", NEWEST]


def test_the_first_released_format_stays_readable():
    """The file was written by `save` once; a new format keeps this test and adds another file."""
    state = read(ROOT / "tests" / "fixtures" / "checkpoint-format-1.pt", OWNER)
    assert state["epoch"] == 3 and state["rows"] == [{"epoch": 1, "loss": 0.1}]
    assert torch.equal(state["w"], torch.arange(6, dtype=torch.float32).view(2, 3) / 7)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes, bit: int = -80) -> bytes:
    array = bytearray(content)
    array[bit // 8] ^= 1 << (bit % 8)
    return bytes(array)


DAMAGES = {
    "truncated": truncated,
    "cut by one byte": lambda content: content[:-1],
    "longer by one byte": lambda content: content + b"\0",
    "bit-flipped": flipped,
    "empty": lambda content: b"",
    "header only": lambda content: content.partition(b"\n")[0],
    "zeros": lambda content: bytes(len(content)),
    "another kind of file": lambda content: b"\x89PNG\r\n\x1a\n" + content,
    "other JSON": lambda content: b"[1]\n" + content,
    "nested": lambda content: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_file_is_renamed_and_the_previous_one_is_used(tmp_path, capsys, damage: str):
    newest = saved(tmp_path, 1, 2)
    broken = DAMAGES[damage](newest.read_bytes())
    newest.write_bytes(broken)
    state = load(tmp_path, OWNER)
    assert state is not None
    assert state["epoch"] == 1
    assert (tmp_path / f"{NEWEST}.damaged").read_bytes() == broken
    assert f"{NEWEST}.damaged" in capsys.readouterr().err


def test_a_flipped_bit_in_the_header_is_detected(tmp_path):
    newest = saved(tmp_path, 1)
    content = newest.read_bytes()
    for bit in range(0, 8 * (content.index(b"\n") + 1), 7):
        newest.write_bytes(flipped(content, bit))
        with pytest.raises(DamagedCheckpoint):
            read(newest, OWNER)


def test_a_flipped_bit_in_the_content_is_detected(tmp_path):
    newest = saved(tmp_path, 1)
    content = newest.read_bytes()
    for bit in range(0, 8 * len(content), 997):
        newest.write_bytes(flipped(content, bit))
        with pytest.raises(DamagedCheckpoint):
            read(newest, OWNER)


def test_without_an_intact_file_a_run_stops_instead_of_starting_afresh(tmp_path):
    saved(tmp_path, 1, 2)
    for name in (NEWEST, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    for _ in range(2):  # also at the next start, when both are renamed
        with pytest.raises(DamagedCheckpoint, match="no checkpoint is intact"):
            load(tmp_path, OWNER)


def test_a_run_saves_again_after_damage(tmp_path):
    saved(tmp_path, 1, 2).write_bytes(b"")
    load(tmp_path, OWNER)
    saved(tmp_path, 2, 3)
    assert [read(tmp_path / name)["epoch"] for name in (NEWEST, PREVIOUS)] == [3, 2]


def test_a_checkpoint_of_other_parameters_is_refused_and_kept(tmp_path):
    content = saved(tmp_path, 1, 2).read_bytes()
    with pytest.raises(ParameterError, match=f"other parameters \\({OWNER}, not ffffffff\\)"):
        load(tmp_path, "ffffffff")
    assert (tmp_path / NEWEST).read_bytes() == content
    assert read(tmp_path / NEWEST)["epoch"] == 2  # reading without `digest` needs no parameters


def test_a_file_swapped_with_that_of_another_run_is_refused(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "other").mkdir()
    save(tmp_path / "other", {"epoch": 9}, "ffffffff")
    (tmp_path / "other" / NEWEST).replace(tmp_path / NEWEST)
    with pytest.raises(ParameterError, match="other parameters"):
        load(tmp_path, OWNER)


def test_the_error_names_a_missing_file(tmp_path):
    for path in (tmp_path / NEWEST, tmp_path):
        with pytest.raises(ParameterError, match="this checkpoint cannot be read"):
            read(path)


def written_as(path: Path, form: Any, state: Any) -> Path:
    """Write a file with a right checksum and any format version and content."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    checksum = checkpoint._checksum(form, OWNER, payload)
    header = {"magic": checkpoint.MAGIC, "format": form, "parameters": OWNER, "sha256": checksum}
    path.write_bytes(json.dumps(header).encode() + b"\n" + payload)
    return path


@pytest.mark.parametrize("form", [0, 2, "1", None])
def test_a_format_of_another_release_is_refused_with_the_known_one(tmp_path, form):
    written_as(tmp_path / NEWEST, form, {"epoch": 1})
    with pytest.raises(ParameterError, match=rf"checkpoint format {form!r} is not known; this release reads format 1"):
        load(tmp_path, OWNER)


class Opened:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("opened-by-the-checkpoint"),)


@pytest.mark.parametrize(
    "state", [Opened(), {"epoch": 1, "x": nn.Linear(1, 1)}, {"x": np.float64(0.5)}, {"x": Path("a")}]
)
def test_objects_are_neither_read_nor_saved(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    path = written_as(tmp_path / "foreign.pt", checkpoint.FORMAT, state)
    with pytest.raises(ParameterError, match="contains more than tensors and plain values"):
        read(path)
    with pytest.raises(Exception, match="Weights only load failed"):
        save(tmp_path, state, OWNER)
    assert [file.name for file in tmp_path.iterdir()] == ["foreign.pt"]
