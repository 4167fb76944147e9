"""Sets as people have them: parts, folders, files and labels; which images and labels each layout gives."""

import re
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.images import encode, picture, rows_of, write_images, write_parquet

from hdarts.data import Images, Splits, dataset_info, load
from hdarts.errors import ParameterError


def whole(path: Path, **more) -> Splits:
    return load(str(path), **{"validation_fraction": 0.0, **more})


def pixels(part: Images | None) -> list[np.ndarray]:
    assert part is not None
    return [image.permute(1, 2, 0).numpy() for image in part.pixels]


def has(part: Images | None, *seeds: int) -> bool:
    """Whether a part has these pictures in this order, and no more."""
    return all(np.array_equal(one, picture(seed)) for one, seed in zip(pixels(part), seeds, strict=True))


def refused(path: Path, **more) -> str:
    """Return the sentence that refuses a set, which is the same before anything is decoded."""
    sentences = set()
    for function in (load, partial(dataset_info, every=True)):
        with pytest.raises(ParameterError) as caught:
            function(str(path), **more)
        sentences.add(str(caught.value))
    (sentence,) = sentences
    return sentence


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["val", "valid", "Validation"])
def two_parts(tmp_path: Path, request) -> Path:
    """12 training and 4 validation images, and no test part."""
    write_images(tmp_path / "Train", 6)
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / request.param / name).mkdir(parents=True)
        for i in range(2):
            (tmp_path / request.param / name / f"{i}.png").write_bytes(encode(picture(500 + 10 * label + i)))
    return tmp_path


def test_a_validation_part_is_the_outer_level_the_test_part_or_unused(two_parts: Path, capsys) -> None:
    outer = load(str(two_parts), validation_part="outer")
    assert has(outer.validation, 500, 501, 510, 511) and len(outer.train) == 12
    assert outer.validation is not None and outer.validation.labels.tolist() == [0, 0, 1, 1]
    assert has(whole(two_parts, validation_part="test", test=True).test, 500, 501, 510, 511)
    assert len(whole(two_parts, validation_part="outer").train) == 16  # an evaluation trains on both levels
    capsys.readouterr()
    unused = load(str(two_parts))
    assert rows_of(unused.train) | rows_of(unused.validation) == rows_of(whole(two_parts).train)
    assert "the validation part is not used (validation_part: outer or test)" in capsys.readouterr().err
    message = refused(two_parts, test=True)
    assert "has no test part" in message and "test_fraction: 0.2" in message and "validation_part: test" in message


def test_a_test_part_is_held_out_for_every_seed_alike(two_parts: Path) -> None:
    first, second = (load(str(two_parts), test_fraction=0.5, test=True, split_seed=seed) for seed in (1, 2))
    assert first.test is not None and torch.bincount(first.test.labels).tolist() == [3, 3]
    assert rows_of(first.test) == rows_of(second.test)
    assert not rows_of(first.test) & (rows_of(first.train) | rows_of(first.validation))
    both = load(str(two_parts), test_fraction=0.5, validation_part="outer", test=True)
    assert (len(both.train), len(both.validation or ()), rows_of(both.test)) == (6, 4, rows_of(first.test))


def test_parts_that_cannot_be_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "test", 3)
    write_images(tmp_path / "valid", 3)
    assert refused(tmp_path).endswith("has test, valid but no training part, train/<class>/*")
    write_images(tmp_path / "train", 3)
    write_images(tmp_path / "val", 3)
    assert refused(tmp_path).endswith("both val and valid mean validation; rename one")
    shutil.rmtree(tmp_path / "val")
    assert "has a test part; set it to 0" in refused(tmp_path, test_fraction=0.2)
    shutil.rmtree(tmp_path / "valid")
    assert "validation_part is test, but" in refused(tmp_path, validation_part="test")
    (tmp_path / "test" / "bee").rename(tmp_path / "test" / "wasp")
    assert "wasp is not a class of the training part, ant, bee" in refused(tmp_path, test=True)


@pytest.mark.parametrize("empty", [True, False])
def test_a_test_part_without_a_class_is_named_before_anything_is_decoded(tmp_path: Path, empty: bool) -> None:
    write_images(tmp_path / "train", 3)
    write_images(tmp_path / "test", 3)
    shutil.rmtree(tmp_path / "test" / "bee")
    if empty:
        (tmp_path / "test" / "bee").mkdir()
    assert "test/bee: contains no image" in refused(tmp_path, test=True)
    write_parquet(tmp_path / "p" / "train.parquet", [encode(picture(s)) for s in range(4)], [0, 1, 2, 1])
    write_parquet(tmp_path / "p" / "test.parquet", [encode(picture(s)) for s in range(2)], [0, 1])
    assert refused(tmp_path / "p", test=True).endswith("the test part has no image of 1 classes: 2")


def test_the_same_image_in_two_parts_is_counted(tmp_path: Path, capsys) -> None:
    write_images(tmp_path / "train", 4)
    write_images(tmp_path / "test", 2)
    (tmp_path / "test" / "ant" / "new.png").write_bytes(encode(picture(99)))
    for more in ({}, {"stream": True, "workers": 0}):
        splits = whole(tmp_path, test=True, **more)
        assert splits.summary()["noted"] == {"of the test part are also in another part": 4}
    assert "images of the test part are also in another part: 4" in capsys.readouterr().err


# --- folders ----------------------------------------------------------------------------------------------------------


def test_every_file_is_used_or_counted_by_kind(tmp_path: Path, capsys) -> None:
    """Images in folders below a class, with any suffix of images, behind links; and what is none."""
    write_images(tmp_path / "set", 1)
    deep = tmp_path / "set" / "ant" / "images" / "more"
    deep.mkdir(parents=True)
    for number, suffix in enumerate(("JPEG", "tif", "jfif", "jpe", "PNG", "TIFF"), 1):
        (deep / f"{number}.{suffix}").write_bytes(encode(picture(number)))
    (tmp_path / "elsewhere.png").write_bytes(encode(picture(50)))
    (tmp_path / "set" / "bee" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "z.png").write_bytes(encode(picture(51)))
    (tmp_path / "set" / "bee" / "linked").symlink_to(tmp_path / "folder")
    (tmp_path / "set" / "bee" / "circle").symlink_to(tmp_path / "set")
    for name in (".DS_Store", "Thumbs.db", "bee/._00.png", "__MACOSX/ant/00.png", "ant/.ipynb_checkpoints/00.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    for name in ("notes.txt", "ant/a.psd", "ant/b.PSD", "bee/images/c.png.bak", "bee/000", "cover.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    splits = whole(tmp_path / "set", test_fraction=0.0001)
    assert splits.classes == ("ant", "bee") and splits.train.labels.tolist() == [0] * 7 + [1] * 3
    assert has(splits.train, 0, 1, 2, 3, 4, 5, 6, 1000, 50, 51)
    counts = {".txt": 1, ".psd": 2, ".bak": 1, "files without suffix": 2, "hidden or system files": 5}
    assert splits.unused == counts | {"images outside the class folders": 1}
    line = "files not used: 1 .bak, 2 .psd, 1 .txt, 2 files without suffix, 5 hidden or system files, 1 images outside"
    assert line in capsys.readouterr().err and splits.summary()["files_not_used"] == splits.unused
    assert "7 images of set are in folders below those of their classes" in dataset_info(str(tmp_path / "set")).line


def test_files_outside_of_the_parts_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 2)
    write_images(tmp_path / "extra", 2)
    (tmp_path / "train" / "stray.png").write_bytes(encode(picture(1)))
    assert whole(tmp_path).unused == {"images outside the class folders": 5}


def test_classes_that_differ_in_case_or_unicode_form_are_refused_and_matched_between_parts(tmp_path: Path) -> None:
    names = ("caf\u00e9", "tea")
    write_images(tmp_path / "train", 2, names)
    write_images(tmp_path / "test", 2, ("cafe\u0301", "Tea"))
    assert whole(tmp_path, test=True).test.labels.tolist() == [0, 0, 1, 1]  # type: ignore[union-attr]
    write_images(tmp_path / "test", 2, names)
    assert "two of its folders differ only in case or Unicode form" in refused(tmp_path, test=True)
    for extra in ("cafe\u0301", "TEA"):
        write_images(tmp_path / "train" / extra, 1, (".",))
        assert "differ only in case or Unicode form" in refused(tmp_path)
        shutil.rmtree(tmp_path / "train" / extra)


def test_a_class_of_trains_is_no_training_part(tmp_path: Path) -> None:
    write_images(tmp_path, 4, ("bus", "Train"))
    assert "has one class" not in refused(tmp_path) and "contains neither" in refused(
        tmp_path
    )  # of what is it the part?
    write_images(tmp_path, 4, ("car",))
    splits = whole(tmp_path, test_fraction=0.001)
    assert splits.classes == ("Train", "bus", "car") and len(splits.train) == 12
    write_images(tmp_path, 4, ("test",))
    assert "contains neither" in refused(tmp_path)


def test_a_link_to_itself_is_a_damaged_image(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    for name, target in (("self.png", "self.png"), ("lost.png", "nowhere"), ("folder", "folder")):
        (tmp_path / "ant" / name).symlink_to(target)
    assert "ant/lost.png: No such file" in refused(tmp_path, test_fraction=0.001)
    splits = whole(tmp_path, test_fraction=0.001, skip_damaged=True)
    assert has(splits.train, 0, 1, 1000, 1001) and splits.skipped == 2
    assert splits.unused == {"files without suffix": 1}


def test_a_name_that_no_file_can_have_and_a_folder_of_others_are_refused(tmp_path: Path, monkeypatch) -> None:
    assert "cannot be read: File name too long" in refused(Path("x" * 300))
    write_images(tmp_path, 2)
    is_dir = Path.is_dir

    def in_a_folder_of_others(path: Path) -> bool:
        if path == tmp_path:
            raise PermissionError(13, "Permission denied")
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", in_a_folder_of_others)
    assert refused(tmp_path).endswith(f"{tmp_path} cannot be read: Permission denied")


def test_one_class_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_images(tmp_path / "outer" / "train", 2)
    assert "has one class, train" not in refused(tmp_path) and "has one class, outer" in refused(tmp_path)
    assert "name the folder that contains the class folders" in refused(tmp_path)


# --- Parquet ----------------------------------------------------------------------------------------------------------


NAMES = ["cat", "dog", "owl"]


def shard(folder: Path, name: str, seeds: range, names: list[str], labels: list[int] | None = None) -> None:
    write_parquet(folder / name, [encode(picture(s)) for s in seeds], labels or [s % 3 for s in seeds], names)


def test_names_decide_which_label_means_what_in_shards_and_test_part(tmp_path: Path) -> None:
    shard(tmp_path, "train-00000-of-00002.parquet", range(3), ["cat", "dog", "owl"])
    shard(tmp_path, "train-00001-of-00002.parquet", range(3, 6), ["owl", "cat", "dog"])
    shard(tmp_path, "test-00000-of-00001.parquet", range(6, 9), ["dog", "owl", "cat"])
    splits = whole(tmp_path, test=True)
    assert splits.test is not None and splits.classes == ("cat", "dog", "owl")
    assert splits.train.labels.tolist() == [0, 1, 2, 2, 0, 1] and splits.test.labels.tolist() == [1, 2, 0]
    shard(tmp_path, "test-00000-of-00001.parquet", range(6, 9), ["dog", "owl", "bat"])
    assert "bat is not a class of the training part, cat, dog, owl" in refused(tmp_path, test=True)


def test_missing_shards_are_named_and_other_files_are_no_shards(tmp_path: Path) -> None:
    names = ["cat", "dog", "owl"]
    shard(tmp_path, "train-00000-of-00002.parquet", range(3), names)
    assert "lack number 1 of 0 to 1" in refused(tmp_path)
    shard(tmp_path, "train-00001-of-00002.parquet", range(3, 6), names)
    for name in ("training_labels.parquet", "train-old.parquet", "trains.parquet", "other.parquet"):
        shard(tmp_path, name, range(90, 93), names)
    (tmp_path / "README.md").write_text("words")
    splits = whole(tmp_path)
    assert has(splits.train, *range(6)) and splits.unused == {".parquet": 4, ".md": 1}
    shard(tmp_path, "train-00001-of-00003.parquet", range(3), names)
    assert "are of several sets" in refused(tmp_path)
    for file in tmp_path.glob("train-0*"):
        file.unlink()
    pq.write_table(pa.table({"label": [1]}), tmp_path / "train_labels.parquet")
    assert refused(tmp_path).endswith("both train and training mean train; rename one")
    shard(tmp_path, "train-new.parquet", range(93, 96), names)
    (tmp_path / "training_labels.parquet").unlink()
    assert has(whole(tmp_path).train, 93, 94, 95, 90, 91, 92) and whole(tmp_path).unused[".parquet"] == 3
    assert "; 2 files joined, train-new.parquet to train-old.parquet;" in dataset_info(str(tmp_path)).line


def test_two_names_of_a_part_are_not_joined(tmp_path: Path) -> None:
    """As in folders: of val and valid, one may be old. Files of other columns are none of the part."""
    shard(tmp_path, "train.parquet", range(6), NAMES)
    for name in ("val.parquet", "valid.parquet"):
        shard(tmp_path, name, range(50, 53), NAMES)
    message = f"{tmp_path}: both val and valid mean validation; rename one"
    assert refused(tmp_path, validation_part="outer") == message
    pq.write_table(pa.table({"label": [1]}), tmp_path / "valid.parquet")
    assert has(load(str(tmp_path), validation_part="outer").validation, 50, 51, 52)
    write_images(tmp_path, 2)
    for name in ("train", "val", "valid"):
        (tmp_path / f"{name}.csv").write_text("file,label\nant/00.png,x\nbee/00.png,y\n")
    assert refused(tmp_path / "train.csv").endswith("both val.csv and valid.csv mean validation; rename one")
    (tmp_path / "valid.csv").write_text("file\nant/01.png\n")
    assert len(load(str(tmp_path / "train.csv"), validation_part="outer").validation or ()) == 2
    more = medmnist(tmp_path / "more.npz", valid_images=np.zeros((2, 6, 6, 3)))
    assert refused(more).endswith("both valid_images and val_images mean validation images; rename one")


def test_a_named_file_is_the_training_part_and_no_other(tmp_path: Path) -> None:
    for number in (0, 1):
        shard(
            tmp_path, f"train-0000{number}-of-00002.parquet", range(3 * number, 3 * number + 3), ["cat", "dog", "owl"]
        )
    shard(tmp_path, "test.parquet", range(6, 9), NAMES)
    one = whole(tmp_path / "train-00001-of-00002.parquet", test=True)
    assert has(one.train, 3, 4, 5) and has(one.test, 6, 7, 8) and one.unused == {".parquet": 1}
    assert has(whole(tmp_path / "test.parquet").train, 6, 7, 8)
    assert "test: has no test part" in refused(tmp_path / "test.parquet", test=True)


def test_a_set_with_train_and_validation_only_is_as_one_of_folders(tmp_path: Path) -> None:
    shard(tmp_path, "train-00000-of-00001.parquet", range(12), ["cat", "dog", "owl"])
    shard(tmp_path, "validation-00000-of-00001.parquet", range(50, 53), ["cat", "dog", "owl"])
    assert "validation_part: test" in refused(tmp_path, test=True)
    assert has(whole(tmp_path, validation_part="test", test=True).test, 50, 51, 52)
    assert has(load(str(tmp_path), validation_part="outer").validation, 50, 51, 52)


TEXTS = ["dog", "cat", "dog", "cat"]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (pa.array([1, 0, 1, 0], pa.uint8()), ("0", "1"), [1, 0, 1, 0]),
        (pa.array(TEXTS), ("cat", "dog"), [1, 0, 1, 0]),
        (pa.array(TEXTS, pa.large_string()), ("cat", "dog"), [1, 0, 1, 0]),
        (pa.array([True, False, True, False]), ("False", "True"), [1, 0, 1, 0]),
        (pa.array(TEXTS).dictionary_encode(), ("cat", "dog"), [1, 0, 1, 0]),
        (pa.array(["10", "9", "10", "9"]), ("9", "10"), [1, 0, 1, 0]),
        (pa.array([1.0, 0.0, 1.0, 0.0]), ("0", "1"), [1, 0, 1, 0]),
    ],
)
@pytest.mark.parametrize("column", ["label", "labels", "Class"])
def test_labels_of_any_type_are_classes(tmp_path: Path, labels, classes, numbers, column: str) -> None:
    table = pa.table({"image": [encode(picture(s)) for s in range(4)], column: labels})
    pq.write_table(table, tmp_path / "train.parquet")
    splits = whole(tmp_path)
    assert splits.classes == classes and splits.train.labels.tolist() == numbers
    pq.write_table(table.take([1, 0]), tmp_path / "test.parquet")  # only of the training part are the numbers free
    assert whole(tmp_path, test=True).test.labels.tolist() == numbers[1::-1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([1, None, 0, 1], "type int64 and 1 empty rows"),
        ([0.5, 1.0, 0.0, 1.0], "type double and 0 empty rows"),
        ([1.0, None, 0.0, 1.0], "type double and 1 empty rows"),
        ([[0], [1], [0], [1]], "type list<.*> and 0 empty rows"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: list, found: str) -> None:
    pq.write_table(pa.table({"image": [encode(picture(s)) for s in range(4)], "label": labels}), tmp_path / "t.parquet")
    assert re.search(f"column label has {found}; each row needs an integer", refused(tmp_path / "t.parquet"))


def test_names_and_numbers_are_not_mixed(tmp_path: Path) -> None:
    """Numbers of a test part beside names of the training part are names; within a training part they are refused."""
    blobs = [encode(picture(s)) for s in range(3)]
    pq.write_table(pa.table({"image": blobs, "label": ["7", "3", "5"]}), tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"image": blobs, "label": [3, 5, 7]}), tmp_path / "test.parquet")
    assert whole(tmp_path, test=True).test.labels.tolist() == [0, 1, 2]  # type: ignore[union-attr]
    pq.write_table(pa.table({"image": blobs, "label": [3, 5, 7]}), tmp_path / "train-1.parquet")
    assert "has numbers where" in refused(tmp_path)


def test_classes_without_an_image_are_said(tmp_path: Path) -> None:
    shard(tmp_path, "train.parquet", range(4), ["cat", "dog", "owl"], [0, 1, 0, 1])
    assert "1 classes without a training image, such as owl" in dataset_info(str(tmp_path)).line
    write_images(tmp_path / "set" / "train", 3)
    (tmp_path / "set" / "train" / "ant" / "data.csv").write_text("")
    for file in (tmp_path / "set" / "train" / "ant").glob("*.png"):
        file.rename(file.with_suffix(".psd"))
    assert re.search(r"ant: contains no image \(.*\), but 1 .csv, 3 .psd", refused(tmp_path / "set"))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "labels.csv").write_text("")
    assert "it has labels.csv, which `data` can name" in refused(tmp_path / "lists")
    shard(tmp_path / "hub" / "data", "train-00000-of-00001.parquet", range(4), ["cat", "dog", "owl"])
    assert "it has data/train-00000-of-00001.parquet, which `data` can name, or its folder" in refused(tmp_path / "hub")


def test_images_by_path_are_found_from_the_folder_and_can_be_streamed(tmp_path: Path) -> None:
    write_images(tmp_path / "files", 2)
    names = ["files/bee/01.png", "files/ant/00.png"]
    struct = [{"bytes": None, "path": name} for name in names]
    for column, values in (("path", names), ("image", struct)):
        pq.write_table(pa.table({column: values, "label": ["b", "a"]}), tmp_path / "train.parquet")
        for stream in (False, True):
            splits = whole(tmp_path, stream=stream, workers=0)
            assert splits.train.labels.tolist() == [1, 0] and not splits.unused
            (batch,) = splits.train.pixel_batches([torch.arange(2)])
            assert np.array_equal(batch[0].numpy(), picture(1001)) and np.array_equal(batch[1].numpy(), picture(0))
    (tmp_path / names[1]).unlink()
    assert "files/ant/00.png: No such file" in refused(tmp_path / "train.parquet")


# --- CSV and NumPy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["file,label", "\ufefffilename;Class", "Image Path\ttarget", "id,label,file_name", '"path","labels"']
)
def test_a_csv_lists_files_and_labels(tmp_path: Path, header: str) -> None:
    write_images(tmp_path / "pictures", 3)
    split = next(mark for mark in ";\t," if mark in header)
    rows = [("pictures/bee/00.png", "10"), ("pictures\\ant\\02.png", "9"), ("pictures/ant/00.png", "9")]
    lines = [
        split.join([*(["7"] if "id" in header else []), *(pair[::-1] if "id" in header else pair)]) for pair in rows
    ]
    (tmp_path / "list.csv").write_text("\n".join([header, *lines]) + "\n\n", encoding="utf-8")
    splits = whole(tmp_path / "list.csv", test_fraction=0.001)
    assert splits.classes == ("9", "10") and splits.train.labels.tolist() == [1, 0, 0]
    assert has(splits.train, 1000, 2, 0)
    assert splits.unused == {"images that list.csv does not list": 3}


def test_the_parts_of_a_csv_are_in_a_column_or_in_files_beside_it(tmp_path: Path) -> None:
    write_images(tmp_path, 4)
    rows = [
        f"{name}/0{i}.png,{name},{part}"
        for name in ("ant", "bee")
        for i, part in enumerate(["train"] * 2 + ["val", "TEST"])
    ]
    (tmp_path / "all.csv").write_text("\n".join(["file,label,split", *rows]))
    splits = load(str(tmp_path / "all.csv"), validation_part="outer", test=True)
    assert has(splits.train, 0, 1, 1000, 1001) and has(splits.validation, 2, 1002) and has(splits.test, 3, 1003)
    (tmp_path / "train.csv").write_text("file,label\nant/00.png,x\nbee/00.png,y\n")
    assert len(whole(tmp_path / "train.csv", test_fraction=0.001).train) == 2
    (tmp_path / "test.csv").write_text("file,label\nbee/01.png,y\nant/01.png,x\n")
    assert whole(tmp_path / "train.csv", test=True).test.labels.tolist() == [1, 0]  # type: ignore[union-attr]
    (tmp_path / "test.csv").write_text("file,label\nbee/01.png,z\nant/01.png,x\n")
    assert "test.csv: z is not a class of the training part, x, y" in refused(tmp_path / "train.csv", test=True)
    (tmp_path / "test.csv").write_text("file\nbee/01.png\n")  # to be labelled, as in competitions
    assert "has no test part" in refused(tmp_path / "train.csv", test=True)


def test_lines_of_a_csv_that_repeat_an_image(tmp_path: Path, capsys) -> None:
    write_images(tmp_path, 2)
    rows = ["file,label", 'ant/00.png,"x, 1"', "bee/00.png,y", 'ant/00.png,"x, 1"', "ant/01.png,y"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    splits = whole(tmp_path / "list.csv", test_fraction=0.001)
    assert (
        has(splits.train, 0, 1000, 1) and splits.classes == ("x, 1", "y") and splits.train.labels.tolist() == [0, 1, 1]
    )
    assert "1 lines repeat an image, which is used once" in capsys.readouterr().err
    (tmp_path / "list.csv").write_text("\n".join([*rows, "ant/00.png,y"]))
    assert refused(tmp_path / "list.csv").endswith("ant/00.png has the labels x, 1 and y; each image needs one label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column of images, only none; name one of them img, image, "),
        ("image_id,label\n1,2\n", "has no column of images, only image_id, label; name one of them img, .*, file,"),
        ("file,id_code\n1,2\n", "has no column of labels, only file, id_code; name one of them label, .*, y$"),
        ("file,label\n", "lists no image"),
        ("file,label\nx.png\n", "line 2 has no file name or no label, or not 2 columns"),
        ("file,label\nx.png,\n", "line 2 has no file name or no label"),
        ("file,label,split\nx.png,a,holdout\n", "line 2: split is 'holdout', not train, validation or test"),
        ("file,label\nx.png,a\ny.png,b\n", "x.png: No such file"),
        ("file,label\nx.png,a\n", "has one class, a"),
        (f"file,label\n{'x' * 200_000}.png,a\n", "cannot be read as CSV in UTF-8: field larger than"),
        ("file,label\n\xe9.png,a\n".encode("latin-1"), "cannot be read as CSV in UTF-8: 'utf-8' codec"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    assert re.search(message, refused(tmp_path / "list.csv", validation_fraction=0.0))


def medmnist(path: Path, **more) -> Path:
    """Write pictures 0 to 5, 6 and 7, 8 and 9 as the three parts of a set of two classes."""
    arrays = dict(more)
    for part, seeds in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10))):
        arrays[f"{part}_images"] = np.stack([picture(seed) for seed in seeds])
        arrays[f"{part}_labels"] = np.array([[seed % 2] for seed in seeds], np.uint8)
    np.savez(path, **arrays)
    return path


def test_an_npz_in_the_layout_of_medmnist(tmp_path: Path) -> None:
    splits = load(str(medmnist(tmp_path / "med.npz")), validation_part="outer", test=True)
    assert splits.classes == ("0", "1") and splits.train.labels.tolist() == [0, 1] * 3
    assert has(splits.train, *range(6)) and has(splits.validation, 6, 7) and has(splits.test, 8, 9)
    extra = medmnist(tmp_path / "more.npz", meta=np.arange(3))
    assert whole(extra).unused == {"other arrays": 1}


GREY = np.arange(24, dtype=np.uint8).reshape(6, 2, 2) * 10


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY, GREY[..., None]),
        (GREY[..., None], GREY[..., None]),
        (GREY[:, None], GREY[..., None]),
        (np.stack([GREY] * 3, 1), np.stack([GREY] * 3, -1)),
        (GREY / 230, np.rint(GREY / 230 * 255)[..., None]),
        (GREY.astype(np.uint16) * 100 + 500, np.rint(GREY / 230 * 255)[..., None]),
        (GREY > 100, (GREY > 100)[..., None] * 255),
    ],
    ids=["N H W", "N H W 1", "N 1 H W", "N 3 H W", "floats", "16 bits", "booleans"],
)
@pytest.mark.parametrize("names", ["x y", "x_train y_train", "train_x train_y", "X Y", "data targets"])
def test_arrays_of_images_and_labels(tmp_path: Path, images, expected, names: str) -> None:
    one, other = names.split()
    labels = np.eye(2)[[1, 0, 1, 0, 1, 0]] if names == "X Y" else np.array(["b", "a"] * 3)
    np.savez(tmp_path / "set.npz", **{one: images, other: labels})
    splits = whole(tmp_path / "set.npz", test_fraction=0.001)
    assert splits.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert np.array_equal(splits.train.pixels.permute(0, 2, 3, 1).numpy(), expected)
    if len(one) == 1:
        assert [len(part or ()) for part in (whole(tmp_path / "set.npz", test_fraction=0.34, test=True).test,)] == [2]


def test_values_beyond_those_of_the_training_images_are_clipped_and_counted(tmp_path: Path, capsys) -> None:
    train, test = (np.arange(8.0).reshape(2, 2, 2), np.array([[[0, 7], [3.5, 1]], [[-1, 0], [0, 9]], [[7, 7], [8, 7]]]))
    arrays = {"x_train": train, "y_train": [0, 1], "x_test": test, "y_test": [0, 1, 1]}
    np.savez(tmp_path / "set.npz", **arrays)
    splits = whole(tmp_path / "set.npz", test=True)
    assert splits.test is not None
    assert splits.test.pixels.flatten(1).tolist() == [[0, 255, 128, 36], [0, 0, 0, 255], [255] * 4]
    scaled = "float64 values of {} are scaled by the range of the training images, 0 to 7"
    said = f"{scaled.format('x_train')}; {scaled.format('x_test')}; 2 of its images have others, which are clipped"
    assert said in capsys.readouterr().err and said in dataset_info(str(tmp_path / "set.npz"), test=True).line
    np.savez(tmp_path / "set.npz", **{**arrays, "x_test": np.where(test < 0, np.nan, test)})
    assert "array x_test contains values that are not finite" in refused(tmp_path / "set.npz", test=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 5)), "y": [0, 1, 0, 1]}, r"has shape \(4, 5\); images have shape"),
        ({"x": GREY}, "has no labels for x"),
        ({"a": GREY}, "has no arrays train_images and train_labels, .* only a"),
        ({"x": GREY, "y": [0, 1]}, "x has 6 images, but y 2 labels"),
        ({"x": GREY, "y": np.ones((6, 3))}, "each image needs one label"),
        ({"x": GREY, "y": np.array([{}] * 6)}, "array y cannot be read: Object arrays cannot be loaded"),
        ({"x": np.full((4, 2, 2), np.nan), "y": [0, 1, 0, 1]}, "values that are not finite"),
    ],
)
def test_arrays_that_are_no_images_and_labels_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    assert re.search(message, refused(tmp_path / "set.npz"))
    (tmp_path / "set.npz").write_bytes((tmp_path / "set.npz").read_bytes()[:-30])
    assert "cannot be read as a NumPy file" in refused(tmp_path / "set.npz")
