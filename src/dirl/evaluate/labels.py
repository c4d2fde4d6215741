"""Which class each tile is of, from a column of the store or from a CSV file."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dirl.card import digest
from dirl.errors import ConfigError

Strings = NDArray[np.str_]

COLUMNS = ("label", "slide_id", "patient_id")


class Known(Protocol):
    """Tiles of a store or of features: arrays of shape (t,), str, empty where nothing is known."""

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
        Empty where a tile has none.
    folds, groups : ndarray of shape (t,), str, or None
        Columns ``fold`` and ``group`` of the CSV.
    unknown
        How many rows of the CSV name a tile or slide that there is not.
    """

    classes: Strings
    folds: Strings | None = None
    groups: Strings | None = None
    unknown: int = 0

    @property
    def digest(self) -> str:
        """Of classes and groups; the folds are in the digest of a split."""
        return digest([None if each is None else each.tolist() for each in (self.classes, self.groups)])


def labels_file(source: str) -> Path | None:
    """Return the CSV file that a source of labels names; None if it is a column, or no file."""
    return None if source in COLUMNS or not Path(source).is_file() else Path(source)


def read_labels(tiles: Known, source: str) -> Labels:
    """Read labels.

    Parameters
    ----------
    tiles
        Which tiles are labelled.
    source
        A column (``label``, ``slide_id`` or ``patient_id``), or a CSV file with the columns ``tile_id`` or
        ``slide_id``, ``label``, and, if wanted, ``fold`` and ``group``.

    Raises
    ------
    ConfigError
        If there is no such column or file, if a column is missing, if two rows name the same tile or slide,
        if a row's is empty, or if no row names any of these.
    """
    columns = dict(zip(COLUMNS, (tiles.labels, tiles.slide_ids, tiles.patient_ids), strict=True))
    if source in columns:
        if not (columns[source] != "").any():
            raise ConfigError(f"no tile has a {source}", where="--labels", remedy="name a CSV file of labels")
        return Labels(columns[source])
    if path := labels_file(source):
        return _from_csv(tiles, path)
    there = ", ".join(name for name, values in columns.items() if (values != "").any())
    raise ConfigError(
        "no such column or file", where=f"--labels {source}", remedy=f"name a CSV file, or one of: {there}"
    )


def read_rows(path: Path) -> tuple[list[dict[str, str | None]], list[str]]:
    """Read the rows of a CSV file, a field that a short row lacks being None, and the names of its columns.

    Raises
    ------
    ConfigError
        If it is no CSV file in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            return list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"cannot be read as CSV ({error})", where=path, remedy="save it as UTF-8"
        ) from error


def _from_csv(tiles: Known, path: Path) -> Labels:
    rows, names = read_rows(path)
    key = next((name for name in ("tile_id", "slide_id") if name in names), None)
    if key is None or "label" not in names:
        there = ", ".join(names) or "none"
        raise ConfigError(
            f"lacks {'the column label' if key else 'a column tile_id or slide_id'} (there are: {there})",
            where=path,
            remedy="name its columns tile_id (or slide_id), label and, if wanted, fold and group",
        )
    by_key: dict[str, Mapping[str, str | None]] = {}
    for line, row in enumerate(rows, start=1):
        name = (row[key] or "").strip()
        if not name:
            raise ConfigError(f"row {line} has no {key}", where=path, remedy="name it, or remove the row")
        if name in by_key:
            raise ConfigError(f"two rows name {key} {name}", where=path, remedy="keep one of them")
        by_key[name] = row
    ids = (tiles.tile_ids if key == "tile_id" else tiles.slide_ids).tolist()
    found = set(ids) & set(by_key)
    if not found:
        example = f" (such as {next(iter(by_key))})" if by_key else ""
        raise ConfigError(
            f"names no {key} of these tiles{example}", where=path, remedy=f"theirs are such as {ids[0]}"
        )

    def column(name: str) -> Strings:
        # A field that a short row lacks is None.
        return np.array([(by_key.get(i, {}).get(name) or "").strip() for i in ids], np.str_)

    return Labels(
        classes=column("label"),
        folds=column("fold") if "fold" in names else None,
        groups=column("group") if "group" in names else None,
        unknown=len(by_key) - len(found),
    )
