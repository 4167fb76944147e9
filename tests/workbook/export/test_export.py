"""Exports: their files compute what the trained network does, and every fault is one clear sentence."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from helpers.command import called
from helpers.tiny_training import TINY
from PIL import Image
from torch import nn

from hdarts.data import in_order
from hdarts.data import load as load_images
from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork, count_multiply_adds
from hdarts.params import EvaluateParams, check
from hdarts.runs import checkpoint
from hdarts.runs.run import Run
from hdarts.space import Genotype
from hdarts.train import read_genotype, train
from hdarts.workbook import export
from hdarts.workbook.export import onnx as graphs
from hdarts.workbook.export.card import seed_accuracies
from hdarts.workbook.export.format import CARD, NETWORK, ONNX, WEIGHTS
from hdarts.workbook.export.inputs import find_images
from hdarts.workbook.export.predict import preprocess

DIGITS = {"data": "digits", "limit": 240, "test_limit": 60, "flip": False, "cutout": 0, "epochs": 2, "channels": 4}
AVERAGED = "|avg_pool_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"


def opened(name: str, **changes) -> tuple[EvaluateParams, Run]:
    params = check(EvaluateParams, TINY | DIGITS | changes | {"run": f"study/evaluate/{name}"})
    return params, Run.open(params)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A runs folder with two evaluations of a cell; the first keeps its checkpoint, and is exported."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDARTS_RUNS", str(folder))
        for seed in (0, 1):
            params, run = opened(f"seed-{seed}", evaluation_seed=seed, keep_checkpoint=seed == 0)
            list(train(params, run))
        export.export("study/evaluate/seed-0", folder / "exported")
    return folder


@pytest.fixture
def here(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be damaged."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export an empty graph that is not compared, which takes no time."""
    monkeypatch.setattr("hdarts.workbook.export.write.to_onnx", lambda *_: b"")
    monkeypatch.setattr("hdarts.workbook.export.write.largest_difference", lambda *_: None)


@pytest.fixture(scope="module")
def images():
    """The images of the training, and of its test."""
    return load_images("digits", limit=240, test_limit=60, validation_fraction=0, test=True)


def trained(runs: Path) -> nn.Module:
    """The network as the training itself would build and fill it."""
    state = checkpoint.read(runs / "study/evaluate/seed-0/checkpoint.pt")
    network = EvaluationNetwork(read_genotype(TINY["genotype"]), 4, 3, 10, auxiliary=True, image_channels=1)
    network.load_state_dict(state["network"])
    return network.eval()


def pictures(images, folder: Path, count: int) -> list[Path]:
    """Write the first test images as files."""
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, pixels in zip(paths, images.test.pixels, strict=False):
        Image.fromarray(pixels[0].numpy()).save(path)
    return paths


@torch.no_grad()
def test_network_and_graph_give_the_logits_of_the_training(runs, images):
    batch, _ = next(in_order(images.test, 60))
    expected = trained(runs)(batch)[0]
    description, network = export.load(runs / "exported")
    assert torch.equal(network(batch)[0], expected)
    assert not any(name.startswith("auxiliary") for name in network.state_dict())
    graph = onnx.load(runs / "exported" / ONNX)
    onnx.checker.check_model(graph, full_check=True)
    assert [(one.domain, one.version) for one in graph.opset_import if one.domain == ""] == [("", graphs.OPSET)]
    assert graph.ir_version == 8, "what opset 18 came with: onnxruntime 1.15 refuses 10, the exporter's"
    assert b".py" not in (runs / "exported" / ONNX).read_bytes(), "no notes of the exporter with paths"
    session = onnxruntime.InferenceSession(runs / "exported" / ONNX, providers=["CPUExecutionProvider"])
    for count in (1, 7, 60):
        (logits,) = session.run(["logits"], {"images": batch[:count].numpy()})
        assert logits == pytest.approx(expected[:count].numpy(), abs=1e-4)
    assert description.classes == list(images.classes)


@torch.no_grad()
def test_predictions_are_those_of_the_trained_network_without_its_training_set(runs, images, tmp_path, monkeypatch):
    batch, _ = next(in_order(images.test, 20))
    shares = trained(runs)(batch)[0].softmax(1)
    monkeypatch.setattr("hdarts.data.request.find", lambda *_: pytest.fail("the training set was looked for"))
    predictions = export.predict(runs / "exported", pictures(images, tmp_path, 20), top=10)
    for prediction, expected in zip(predictions, shares, strict=True):
        assert prediction.classes[0][0] == str(int(expected.argmax()))
        confidences = {int(name): share for name, share in prediction.classes}
        assert [confidences[label] for label in range(10)] == pytest.approx(expected.tolist(), abs=1e-5)


def test_images_are_converted_to_the_form_the_network_was_trained_on(runs):
    description, _ = export.load(runs / "exported")
    colour = description.model_copy(update={"shape": [3, 4, 6], "mean": [0.5, 0.25, 0.0], "std": [1.0, 0.5, 0.25]})
    grey = np.full((9, 9, 1), 102, np.uint8)
    assert preprocess(colour, grey).shape == (3, 4, 6)
    assert preprocess(colour, grey)[:, 0, 0].tolist() == pytest.approx([0.4 - 0.5, 0.15 / 0.5, 0.4 / 0.25])
    single = description.model_copy(update={"mean": [0.0], "std": [1.0]})
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert preprocess(single, red).unique().tolist() == pytest.approx([76 / 255])  # 0.299 of red is its luma


def test_the_command_prints_classes_and_names_each_file_that_is_no_image(runs, images, tmp_path, monkeypatch, capsys):
    good, other = pictures(images, tmp_path, 2)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    broken = tmp_path / "half.png"
    broken.write_bytes(good.read_bytes()[:60])
    assert called(monkeypatch, "predict", runs / "exported", good, bad, tmp_path / "none.png", other, "--top", "2") == 1
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in out.splitlines()] == [str(good), str(other)]
    assert all(line.count(" %") == 2 for line in out.splitlines())
    assert len(err.splitlines()) == 2
    assert "bad.png: is not an image" in err and "none.png: No such file" in err
    assert called(monkeypatch, "predict", runs / "exported", broken) == 1
    assert "half.png: cannot be read as an image" in capsys.readouterr().err
    assert called(monkeypatch, "predict", runs / "exported", good) == 0


def test_folders_patterns_and_files_are_predicted_in_batches_as_one_by_one(runs, images, tmp_path, monkeypatch):
    inside = tmp_path / "photos" / "more"
    inside.mkdir(parents=True)
    paths = pictures(images, inside, 5)
    (inside / "notes.txt").touch()
    (inside / ".hidden.png").touch()
    loose = pictures(images, tmp_path, 2)
    found = find_images([loose[1], tmp_path / "photos"])
    assert list(found.images) == [loose[1], *paths]
    assert found.note() == "2 other files are left out: 1 .txt, 1 hidden or system files"
    hidden = tmp_path / "unzipped" / "__MACOSX"
    hidden.mkdir(parents=True)
    pictures(images, hidden, 2)
    pictures(images, hidden.parent, 1)
    assert find_images([hidden.parent]).note() == "2 other files are left out: 2 hidden or system files"
    shutil.rmtree(hidden.parent)
    monkeypatch.chdir(tmp_path)
    for pattern in ("photos/more/[0-9].png", "photos/**/*.png", str(tmp_path / "photos" / "*" / "*.png")):
        assert [path.resolve() for path in find_images([Path(pattern)]).images] == paths
    assert list(find_images([loose[0], loose[0], tmp_path]).images) == [*loose, *paths], "each once"
    for empty in ("*.jpg", "exported"):
        (tmp_path / "exported").mkdir(exist_ok=True)
        with pytest.raises(ParameterError, match=r"contains no image \(.png, "):
            find_images([Path(empty)])
    paths[1].write_bytes(b"no image")
    single = list(export.predict(runs / "exported", paths, batch_size=1))
    sizes, whole = [], torch.stack
    monkeypatch.setattr(torch, "stack", lambda some: sizes.append(len(some)) or whole(some))
    batched = list(export.predict(runs / "exported", paths, batch_size=3))
    assert sizes == [2, 2] and [one.image for one in batched] == paths
    for one, other in zip(single, batched, strict=True):
        assert [name for name, _ in one.classes] == [name for name, _ in other.classes] and one.error == other.error
        assert [value for _, value in one.classes] == pytest.approx([value for _, value in other.classes], abs=1e-6)


def test_predictions_are_written_as_csv_and_json(runs, images, tmp_path, monkeypatch, capsys):
    good, bad = pictures(images, tmp_path, 2)
    bad.write_bytes(b"no image")
    (expected,) = export.predict(runs / "exported", [good], top=2)
    names, shares = zip(*expected.classes, strict=True)
    words = ("predict", runs / "exported", tmp_path, "--top", "2")
    assert called(monkeypatch, *words, "--output", tmp_path / "table.csv") == 1
    out, err = capsys.readouterr()
    assert out == f"2 images: {tmp_path / 'table.csv'}\n" and err.count("\n") == 1 and "1.png: is not an image" in err
    first, second = pd.read_csv(tmp_path / "table.csv", dtype={"class": str, "class_2": str}).to_dict("records")
    assert (first["image"], first["class"], first["class_2"]) == (str(good), *names)
    assert [first["confidence"], first["confidence_2"]] == list(shares)
    assert second["image"] == str(bad) and "is not an image" in second["error"]
    assert called(monkeypatch, *words, "--format", "json") == 1
    one, two = json.loads(capsys.readouterr().out)
    assert one == {"image": str(good), "error": "", "classes": [
        {"class": name, "confidence": share} for name, share in expected.classes
    ]}  # fmt: skip
    assert two["classes"] == [] and "is not an image" in two["error"]
    for wrong, message in (
        (("--format", "xml"), "'xml' is not known"),
        (("--batch-size", "0"), "batch_size is 0"),
        (("--output", "x.xlsx"), "--output x.xlsx: .xlsx is not .txt, .csv or .json"),
        (("--output", good / "x.csv"), f"--output {good / 'x.csv'}: cannot be written: "),
    ):
        assert called(monkeypatch, *words, *wrong) == 2
        out, err = capsys.readouterr()
        assert out == "" and message in err


def test_names_of_files_with_line_ends_or_other_bytes(runs, images, tmp_path, monkeypatch, capsys):
    """Escaped in lines of text; as they are in CSV and JSON, but for bytes that are no UTF-8."""
    (good,) = pictures(images, tmp_path, 1)
    odd = good.rename(tmp_path / "a\nb.png")
    raw, bad = tmp_path / os.fsdecode(b"\xff.png"), tmp_path / "c\nd.png"
    raw.write_bytes(odd.read_bytes())
    bad.write_bytes(b"no image")
    words = ("predict", runs / "exported", tmp_path, "--top", "1")
    assert called(monkeypatch, *words) == 1
    out, err = capsys.readouterr()
    names = [line.split(": ")[0] for line in out.splitlines()]
    assert names == [f"{tmp_path}/a\\nb.png", f"{tmp_path}/\\udcff.png"]
    assert err.count("\n") == 1 and f"{tmp_path}/c\\nd.png: is not an image" in err
    assert called(monkeypatch, *words, "--output", tmp_path / "t.csv") == 1
    assert pd.read_csv(tmp_path / "t.csv")["image"].tolist() == [str(odd), str(bad), f"{tmp_path}/\\xff.png"]
    assert called(monkeypatch, *words, "--format", "json") == 1
    text = capsys.readouterr().out.partition("\n")[2]
    assert [one["image"] for one in json.loads(text)] == [str(odd), str(bad), f"{tmp_path}/\\xff.png"]


def test_the_card_states_data_seeds_spread_and_size(runs, images, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(runs))
    results = [json.loads((runs / f"study/evaluate/seed-{seed}/result.json").read_text()) for seed in (0, 1)]
    tested = [result["last_test_accuracy"] for result in results]
    card = (runs / "exported" / CARD).read_text()
    spread = f"{np.mean(tested):.2f} % mean, {np.std(tested, ddof=1):.2f} standard deviation, n = 2"
    for part in (images.digest, "evaluation 0", f"{tested[0]:.2f} % with these weights", spread):
        assert part in card
    assert f"{results[0]['parameters']:,} parameters" in card
    assert "{" not in card
    assert seed_accuracies(Run.open(opened("seed-0")[0])) == tested


def test_multiply_adds_are_those_of_every_convolution_and_the_classifier(runs):
    _, network = export.load(runs / "exported")
    counted = 0

    def count(module, _, out):
        nonlocal counted
        weights = module.weight[0].numel()  # in / groups x kernel x kernel, or features
        counted += out.numel() * weights

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(1, 1, 8, 8))
    description = export.load(runs / "exported")[0]
    assert count_multiply_adds(description.network("meta"), (1, 8, 8)) == counted > 10_000


@pytest.mark.soak
def test_a_cell_of_nasbench201_on_odd_maps_is_the_same_as_a_graph():
    network = EvaluationNetwork(Genotype.from_string(AVERAGED), 4, 1, 3, auxiliary=False).eval()
    difference = graphs.largest_difference(graphs.to_onnx(network, (3, 7, 9)), network, (3, 7, 9))
    assert difference is not None and difference < graphs.TOLERANCE


def test_a_graph_that_computes_something_else_is_refused(runs):
    _, network = export.load(runs / "exported")
    graph = (runs / "exported" / ONNX).read_bytes()
    assert graphs.largest_difference(graph, network, (1, 8, 8)) is not None
    with torch.no_grad():
        network.classifier.bias += 0.01  # type: ignore[union-attr, operator]
    with pytest.raises(ParameterError, match=r"differs from the network by 0\.0"):
        graphs.largest_difference(graph, network, (1, 8, 8))


@pytest.mark.usefixtures("no_onnx")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "checkpoint.pt").unlink(), "keep_checkpoint: true"),
        (lambda run: (run / "result.json").unlink(), "is not finished"),
        (lambda run: (run / "checkpoint.pt").write_bytes(b"none"), "header is not that of a checkpoint"),
        (lambda run: (run / "provenance.json").write_text("{"), "provenance.json: cannot be read"),
        (lambda run: (run / "params.yaml").write_text("search_seed: 2\n"), "is not an evaluation"),
        (lambda run: (run / "export").mkdir() or (run / "export" / "mine").touch(), "exists already"),
    ],
    ids=["pruned", "unfinished", "damaged", "no provenance", "search", "taken"],
)
def test_what_cannot_be_exported_gives_one_sentence(here, monkeypatch, capsys, damage, message):
    damage(here / "study/evaluate/seed-0")
    assert called(monkeypatch, "export", "study/evaluate/seed-0") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("hdarts: ") and message in err and err.count("\n") == 1
    assert [path.name for path in (here / "study/evaluate/seed-0").glob(".export*")] == []


@pytest.mark.usefixtures("no_onnx")
def test_an_older_run_without_classes_in_its_provenance_reads_them_from_the_images(here, monkeypatch):
    path = here / "study/evaluate/seed-0/provenance.json"
    provenance = json.loads(path.read_text())
    (start,) = provenance["starts"]
    whole = dict(start["data"])
    for name in ("classes", "shape", "mean", "std"):
        del start["data"][name]
    path.write_text(json.dumps(provenance))
    folder = export.export(here / "study/evaluate/seed-0").folder
    assert folder == here / "study/evaluate/seed-0/export"
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, NETWORK, ONNX, CARD}
    description, _ = export.load(folder)
    assert [description.classes, description.mean] == [whole["classes"], whole["mean"]]
    card = (folder / CARD).read_text()
    assert "n = 2 evaluation seeds" in card and "onnxruntime was not installed" in card


def test_a_user_defined_network_is_refused(here, monkeypatch):
    params, run = opened("custom", keep_checkpoint=True)
    cells = read_genotype(params.genotype)
    list(train(params, run, network=EvaluationNetwork(cells, 6, 3, 10, auxiliary=False, image_channels=1)))
    with pytest.raises(ParameterError, match="a user-defined network"):
        export.export("study/evaluate/custom")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2 is not known"),
        ({"mean": [0.0, 0.0]}, "mean and std need one number for each of 1 channels"),
        ({"std": [0.0]}, "std.0"),
        ({"more": 1}, "more"),
        ({"weights_sha256": "0"}, "is damaged"),
        ({"genotype": {}}, "genotype: format None"),
        ({"channels": 5}, "describes another network"),
    ],
)
def test_a_foreign_or_damaged_export_gives_one_sentence(runs, tmp_path, change, message):
    shutil.copytree(runs / "exported", tmp_path / "exported")
    path = tmp_path / "exported" / NETWORK
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ParameterError) as error:
        export.predict(tmp_path / "exported", [])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="is not an exported network"):
        export.load(tmp_path)


@pytest.mark.parametrize(("missing", "verb"), [("onnxscript", "export"), ("safetensors", "predict")])
def test_a_missing_package_is_named_with_its_extra(here, monkeypatch, capsys, missing, verb):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "safetensors.torch", raising=False)
    words = ["study/evaluate/seed-0"] if verb == "export" else [here / "exported", "x.png"]
    assert called(monkeypatch, verb, *words) == 2
    assert "pip install 'hdarts[export]'" in capsys.readouterr().err


@pytest.mark.usefixtures("no_onnx")
def test_a_full_disk_leaves_nothing_behind(here, monkeypatch):
    original = Path.open

    def full(self, *arguments, **named):
        if self.name.startswith(f".{CARD}"):
            raise OSError(28, "No space left on device")
        return original(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    before = sorted(here.rglob("*"))
    with pytest.raises(OSError, match="No space left"):
        export.export("study/evaluate/seed-0")
    assert sorted(here.rglob("*")) == before
