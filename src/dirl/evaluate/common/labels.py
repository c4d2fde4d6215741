"""The class of each tile, from a column of the store or from a CSV file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dirl.config import LABEL_COLUMNS
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.tables.label_column import LABEL, split_source
from dirl.tables.match import describe_column, describe_table, match_slides, match_tiles
from dirl.tables.read import CENTRE, PATIENT, check_alike, check_classes, read_csv

Strings = NDArray[np.str_]


class TileColumns(Protocol):
    """Tiles of a store or of features: arrays of shape (t,), str, empty if unknown."""

    @property
    def tile_ids(self) -> Strings:
        """Every tile's id."""

    @property
    def slide_ids(self) -> Strings:
        """Every tile's slide."""

    @property
    def patient_ids(self) -> Strings:
        """Every tile's patient."""

    @property
    def labels(self) -> Strings:
        """Every tile's class."""


@dataclass(frozen=True)
class Labels:
    """Labels of tiles, all in their order.

    Attributes
    ----------
    classes : ndarray of shape (t,), str
        Empty if a tile has none.
    folds, groups, patients, centres : ndarray of shape (t,), str, or None
        Columns of the CSV; None if it has none.
    unknown
        Number of rows of the CSV that name a missing tile or slide.
    notes
        The columns that were used, and what was left out.
    """

    classes: Strings
    folds: Strings | None = None
    groups: Strings | None = None
    patients: Strings | None = None
    centres: Strings | None = None
    unknown: int = 0
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of classes, groups, patients and centres; the folds are in the digest of a split."""
        named = [each for each in (self.patients, self.centres) if each is not None]
        return digest(
            [None if each is None else each.tolist() for each in (self.classes, self.groups, *named)]
        )

    def take(self, numbers: NDArray[np.int64]) -> "Labels":
        """Take the labels of some tiles, in the order of their numbers."""
        columns = {name: getattr(self, name) for name in ("folds", "groups", "patients", "centres")}
        taken: dict[str, Any] = {
            name: None if each is None else each[numbers] for name, each in columns.items()
        }
        return replace(self, classes=self.classes[numbers], **taken)


def labels_file(source: str) -> Path | None:
    """Return the CSV file that a source of labels names; None if it is a column, or no file."""
    path, _ = split_source(source)
    return None if source in LABEL_COLUMNS or not path.is_file() else path


def read_labels(tiles: TileColumns, source: str, *, centres: bool = False) -> Labels:
    """Read the labels of tiles, and on request their centres.

    `source` is a column (``label``, ``slide_id`` or ``patient_id``), or a CSV file. The file has the columns
    ``tile_id`` or ``slide_id``, and ``label``; ``fold``, ``group`` and ``patient_id`` are optional. Labels
    from another column are ``CSV,label=COLUMN``. Slides, patients and centres may have any of the usual names
    (see `dirl.tables.read`).

    Raises
    ------
    ConfigError
        If there is no such column or file, or a column is missing. If rows of the same tile or slide do not
        agree, or a row names no tile or slide. If no row names one of these tiles. If classes differ only in
        case or blanks.
    """
    columns = dict(zip(LABEL_COLUMNS, (tiles.labels, tiles.slide_ids, tiles.patient_ids), strict=True))
    if source in columns:
        if not (columns[source] != "").any():
            raise ConfigError(f"no tile has a {source}", where="labels", remedy="name a CSV file of labels")
        if source == "label":  # by name of a folder, where NA is a name like others
            check_alike(columns[source].tolist(), "labels label")
        return Labels(columns[source])
    path, column = split_source(source)
    if path.exists():
        return _from_csv(tiles, path, column, centres=centres)
    there = ", ".join(name for name, values in columns.items() if (values != "").any())
    raise ConfigError(
        "no such column or file", where=f"labels {source}", remedy=f"name a CSV file, or one of: {there}"
    )


def _from_csv(tiles: TileColumns, path: Path, wanted: str, *, centres: bool) -> Labels:
    table = read_csv(path)
    tile, label = table.find(("tile_id",)), table.find((wanted,))
    found = {
        "folds": table.find(("fold",)),
        "groups": table.find(("group",)),
        "patients": table.find_filled(PATIENT),
        "centres": table.find_filled(CENTRE) if centres else None,
    }
    used = {what: column for what, column in found.items() if column is not None}
    read = [*used.values(), *([label] if label else [])]
    matched = (
        match_slides(table, np.unique(tiles.slide_ids).tolist(), read, path)
        if tile is None
        else match_tiles(table, tile, tiles.tile_ids.tolist(), read, path)
    )
    if matched is None or label is None:
        there = ", ".join(table.columns) or "none"
        lacking = f"the column {wanted}" if matched else "a column tile_id or slide_id"
        remedy = "name its columns tile_id (or slide_id), label and, if wanted, fold, group and patient_id"
        raise ConfigError(
            f"lacks {lacking} (there are: {there})",
            where=path,
            remedy=remedy if wanted == LABEL else "name one of its columns",
        )
    ids = (tiles.slide_ids if tile is None else tiles.tile_ids).tolist()
    if len(matched.unknown) == len(matched.rows):
        example = f" (such as {matched.unknown[0]})" if matched.unknown else ""
        key = "slide" if tile is None else "tile"
        raise ConfigError(
            f"column {matched.column} names no {key} of these tiles{example}",
            where=path,
            remedy=f"theirs are such as {ids[0]}",
        )

    def column(name: str) -> Strings:
        return np.array([matched.rows[i][name] if i in matched.rows else "" for i in ids], np.str_)

    columns = {what: column(name) for what, name in used.items()}
    classes = column(label)
    check_classes(classes[classes != ""].tolist(), path)
    if (patients := columns.get("patients")) is not None:
        columns["patients"] = np.where(patients == "", tiles.patient_ids, patients)
    taken = [
        describe_column("slides" if tile is None else "tiles", matched.column, matched.known),
        *(describe_column(what, name, columns[what].tolist()) for what, name in used.items()),
        describe_column("classes", label, classes.tolist()),
    ]
    notes = describe_table(table, matched, taken, used, [label])
    return Labels(classes, **columns, unknown=len(matched.unknown), notes=tuple(notes))
