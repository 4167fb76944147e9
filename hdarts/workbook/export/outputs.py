"""Predictions as lines of text, CSV or JSON."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hdarts.errors import ParameterError
from hdarts.workbook.export.inputs import find_images
from hdarts.workbook.export.predict import Prediction, predict
from hdarts.workbook.formatting import write_output

FORMATS = ("text", "csv", "json")
SUFFIXES = {"": "text", ".txt": "text", ".csv": "csv", ".json": "json"}


def chosen_format(form: str, output: Path | None) -> str:
    """Return `form`, or for "" that of the suffix of the output file; text is the default."""
    suffix = output.suffix.lower() if output else ""
    if not form and suffix not in SUFFIXES:
        raise ParameterError(f"--output {output}: {suffix} is not .txt, .csv or .json; --format chooses one of them")
    form = form or SUFFIXES[suffix]
    if form not in FORMATS:
        raise ParameterError(f"format {form!r} is not known; known are {', '.join(FORMATS)}")
    return form


def written(predictions: Iterable[Prediction], form: str, top: int) -> Iterator[str]:
    """Yield the text of predictions piece by piece.

    text: a line for each image that can be read. csv: a row for each image, with the columns image, class, confidence
    (from 0 to 1), class_2, confidence_2, ..., error. json: a list of objects with image, classes, each with class and
    confidence, and error.
    """
    if form == "text":
        yield from (f"{prediction}\n" for prediction in predictions if not prediction.error)
    elif form == "csv":
        numbers = ["", *(f"_{number}" for number in range(2, top + 1))]
        yield _row(["image", *(name + number for number in numbers for name in ("class", "confidence")), "error"])
        for one in predictions:
            values = [str(value) for pair in one.classes for value in pair]
            yield _row([_printable(one.image), *values, *[""] * (2 * top - len(values)), _printable(one.error)])
    else:
        for number, one in enumerate(predictions):
            classes = [{"class": name, "confidence": value} for name, value in one.classes]
            record = {"image": _printable(one.image), "classes": classes, "error": _printable(one.error)}
            yield f"{',' if number else '['}\n{json.dumps(record, ensure_ascii=False)}"
        yield "\n]\n"


def predict_to(export: Path, inputs: Iterable[Path], top: int, form: str, output: Path | None, batch_size: int) -> int:
    """Predict the images of `inputs`, print or write the predictions; return 1 if an image cannot be read, else 0.

    Errors, and a count of files that are no images, go to standard error.
    """
    form, found, code = chosen_format(form, output), find_images(inputs), 0
    predictions = predict(export, found.images, top, batch_size)

    def noted() -> Iterator[Prediction]:
        nonlocal code
        for prediction in predictions:
            if prediction.error:
                print(f"hdarts: {prediction}", file=sys.stderr)
                code = 1
            yield prediction

    pieces = written(noted(), form, top)
    if output is None:
        for piece in pieces:
            print(piece, end="")
    else:
        write_output("--output", output, "".join(pieces))
        print(f"{len(found.images)} images: {output}")
    if note := found.note():
        print(f"hdarts: {note}", file=sys.stderr)
    return code


def _printable(text: str | Path) -> str:
    """Return a text with the bytes of file names that are no UTF-8 escaped."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _row(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
