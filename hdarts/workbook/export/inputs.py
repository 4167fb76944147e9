"""The image files that the inputs of `hdarts predict` name: files, folders and patterns."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hdarts.data.folders import SUFFIXES, counted, is_image, kind, walk
from hdarts.errors import ParameterError


@dataclass
class Inputs:
    """Image files in order, each once, and how many other files folders and patterns have, by kind."""

    images: dict[Path, None] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)

    def note(self) -> str:
        """Return a line about the files that are no images, "" if there are none."""
        return f"{self.others.total()} other files are left out: {counted(self.others)}" if self.others else ""


def find_images(inputs: Iterable[Path]) -> Inputs:
    """Return the images that files, folders (with all folders below) and patterns name, each sorted by name.

    A named file is taken whatever its suffix. In folders and patterns (`*`, `?`, `[...]`, and `**` for any folders),
    files that are hidden or have no suffix of an image are counted and left out. Raises `ParameterError` for a folder
    or pattern without images; whether a file can be read shows later.
    """
    found = Inputs()
    for name in inputs:
        pattern = not name.exists() and any(character in str(name) for character in "*?[")
        if not pattern and not name.is_dir():
            found.images[name] = None
            continue
        if pattern:
            base = Path(name.anchor)
            paths = (path for path in base.glob(str(name.relative_to(base))) if path.is_file())
            files = [(path, (path.name,)) for path in sorted(paths)]
        else:
            files = [(name.joinpath(*names), names) for names in walk(name)]
        images = [path for path, names in files if is_image(names)]
        if not images:
            raise ParameterError(f"{name}: contains no image ({', '.join(SUFFIXES)}); it has {len(files)} other files")
        found.images |= dict.fromkeys(images)
        found.others += Counter(kind(names) for path, names in files if path not in found.images)
    return found
