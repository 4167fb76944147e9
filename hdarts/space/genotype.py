"""The discrete cells of a search space, and their forms on disk."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    model_serializer,
    model_validator,
)

from hdarts.errors import ParameterError
from hdarts.params import validated
from hdarts.space.named import SPACES, check_space, space_of_cells
from hdarts.space.spaces import DARTS, NASBENCH201, SearchSpace
from hdarts.space.text import published_cells

FORMAT = 1  # of a genotype on disk
Cell = list[tuple[str, StrictInt]]


def _unless_built_in(space: SearchSpace | None) -> SearchSpace | None:
    return None if space is None or space_of_cells(space) in (DARTS, NASBENCH201) else space


def _described(space: SearchSpace) -> dict[str, Any]:
    return {name: value for name, value in asdict(space).items() if name != "candidates" or value}


class Genotype(BaseModel):
    """The discrete cells of one space: a list of `[operation, input]` for each kind of cell.

    DARTS has `normal` and `reduce`, in the form of its authors: two edges for each of 4 nodes, in order. Inputs 0 and 1
    are the outputs of the two cells before; 2 to 5 are the nodes, whose concatenation is the cell's output. In the
    result of a search, the two edges of a node are ordered by strength. An edge with the operation `none` is left out,
    so that a node can have fewer than two.

    NAS-Bench-201 has one `cell`: an operation, which may be `none`, for each of its 6 edges, ordered by node, then
    input. Node 0 is the cell's input, node 3 its output.

    A custom space (`custom`) has the two lists of DARTS, with two edges per node. Cells of a named space whose
    operations are all in DARTS or NAS-Bench-201, such as S1, are cells of these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    custom: Annotated[SearchSpace | None, AfterValidator(_unless_built_in)] = Field(
        default=None,
        validation_alias=AliasChoices("custom", "own"),  # own: until 0.1.0
    )
    normal: Cell = []
    reduce: Cell = []
    cell: Cell = []

    @property
    def space(self) -> SearchSpace:
        return self.custom or (NASBENCH201 if "cell" in self.model_fields_set else DARTS)

    @property
    def cells(self) -> dict[str, Cell]:
        return {kind: getattr(self, kind) for kind in self.space.kinds}

    @model_validator(mode="after")
    def _is_of_one_space(self) -> "Genotype":
        check_space(self.space)
        given = set(self.model_fields_set) - {"custom"}
        if given != set(self.space.kinds):
            missing = [kind for kind in self.space.kinds if kind not in given]
            others = sorted(given - set(self.space.kinds))
            raise ValueError(
                f"{missing[0]}: is missing" if missing else f"{others[0]}: is no cell of space {self.space.name}"
            )
        for kind, cell in self.cells.items():
            self.space.check_cell(kind, cell)
        return self

    @model_serializer
    def _of_its_space(self) -> dict[str, Any]:
        return self.cells | ({"custom": _described(self.custom)} if self.custom else {})

    def to_json(self) -> str:
        """Return the genotype as JSON text with its format version and space: its name, or a custom space in full."""
        cells = {kind: [list(edge) for edge in cell] for kind, cell in self.cells.items()}
        space = self.space.name if self.space in SPACES.values() else _described(self.space)
        return json.dumps({"format": FORMAT, "space": space, **cells}, indent=2) + "\n"

    @classmethod
    def from_text(cls, text: str) -> "Genotype":
        """Return the genotype in a text of any form: JSON, the string of NAS-Bench-201, or that of codes of DARTS.

        The last is `Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=..., ...)`. Raises
        `ParameterError` with one sentence.
        """
        if (text := text.strip()).startswith("|"):
            return cls.from_string(text)
        if (cells := published_cells(text)) is not None:
            return validated(cls, cells, "genotype")
        if text.startswith("{"):
            return cls.from_json(text)
        raise ParameterError(
            "genotype: the text is not JSON, nor Genotype(normal=[...], ...), nor |operation~0|+... of NAS-Bench-201"
        )

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Return the genotype in a JSON text; anything else raises `ParameterError` with one sentence."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise ParameterError("genotype: the text is not JSON") from None
        if not isinstance(content, dict):
            raise ParameterError("genotype: the JSON is no object with format, space and cells")
        if (form := content.pop("format", None)) != FORMAT or isinstance(form, bool):
            raise ParameterError(f"genotype: format {form!r} is not known here; this release reads format {FORMAT}")
        space = content.pop("space", None)
        if isinstance(space, dict):
            content["custom"] = space
        elif not isinstance(space, str) or space not in SPACES:
            raise ParameterError(f"genotype: space {space!r} is not known; known are {', '.join(SPACES)}")
        elif missing := [kind for kind in SPACES[space].kinds if kind not in content]:
            raise ParameterError(f"genotype: {missing[0]}: is missing; a genotype of space {space} has it")
        else:
            content["custom"] = SPACES[space]
        return validated(cls, content, "genotype")

    def to_string(self) -> str:
        """Return the string form of NAS-Bench-201, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`; cells of DARTS have none."""
        if self.space != NASBENCH201:
            raise ParameterError(f"genotype: of space {self.space.name}, which has no string form; nasbench201 has one")
        nodes = ["", "", ""]
        for (operation, source), (_, node) in zip(self.cell, NASBENCH201.edges, strict=True):
            nodes[node - 1] += f"{operation}~{source}|"
        return "+".join("|" + node for node in nodes)

    @classmethod
    def from_string(cls, text: str) -> "Genotype":
        """Return the genotype of a string of NAS-Bench-201; raise `ParameterError` if it is no cell of the space."""
        if re.fullmatch(r"\|([^|+~]+~0\|)\+\|([^|+~]+~[01]\|){2}\+\|([^|+~]+~[012]\|){3}", text) is None:
            raise ParameterError(f"genotype: {text!r} is not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
        edges = [(operation, int(source)) for operation, source in re.findall(r"([^|+~]+)~(\d)", text)]
        return validated(cls, {"cell": edges}, f"genotype: {text!r}")


def skip_count(genotype: Genotype) -> int:
    """Return the number of skip connections in the normal cell, used by the thesis's selection rule (4.7).

    In NAS-Bench-201: in its only kind of cell.
    """
    return sum(operation == "skip_connect" for operation, _ in genotype.cells[genotype.space.kinds[0]])


def every_cell() -> Iterator[Genotype]:
    """Yield all 15,625 genotypes of NAS-Bench-201."""
    sources = [source for source, _ in NASBENCH201.edges]
    for operations in product(NASBENCH201.operations, repeat=len(sources)):
        yield Genotype(cell=list(zip(operations, sources, strict=True)))
