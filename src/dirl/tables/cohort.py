"""The cohort's table: which slides there are, and their patients, centres and resolutions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from dirl.core.boundary import has_control_characters
from dirl.core.errors import ConfigError
from dirl.tables.match import describe_column, describe_table, match_slides
from dirl.tables.read import CENTRE, PATIENT, SLIDE, Row, parse_number, read_csv

COLUMNS = ("patient_id", "centre", "mpp")


@dataclass(frozen=True)
class FromTable:
    """The table's values for one slide; None means the value of the file, which `mpp` (µm/px) replaces.

    `centre` is the hospital or laboratory.
    """

    patient_id: str | None = None
    centre: str | None = None
    mpp: float | None = None


NOT_IN_TABLE = FromTable()


def cohort_slides(path: Path) -> list[Path]:
    """Return the files of the slides that a cohort's table names, in its order, each once.

    The first column of slides that names any file is used. A path is relative to the table's folder, or
    absolute. The folder of a DICOM series counts as a file.

    Raises
    ------
    ConfigError
        If the table cannot be read or names no file, or if some rows name none.
    """
    table = read_csv(path)
    for column in table.find_all(SLIDE):
        named = list(dict.fromkeys(row[column] for row in table.rows if row[column]))
        missing = [name for name in named if not (path.parent / name).exists()]
        if len(missing) == len(named):
            continue
        if missing:
            raise ConfigError(
                f"{len(missing)} of {len(named)} slides in column {column} are no files, first {missing[0]}",
                where=path,
                remedy="correct these paths, or remove the rows",
            )
        if empty := table.missing(column).total():
            raise ConfigError(
                f"{empty} rows have no {column}", where=path, remedy="fill it in, or remove these rows"
            )
        return [path.parent / name for name in named]
    there = ", ".join(table.columns) or "none"
    raise ConfigError(
        f"names no file of a slide (columns: {there})",
        where=path,
        remedy="add a column path with the files, relative to the table's folder; or name the slides, too",
    )


def read_cohort(path: Path, known: Sequence[str]) -> tuple[dict[str, FromTable], list[str]]:
    """Read a CSV file with a column of slides, and any of patients, centres and ``mpp``.

    The columns may have any of the usual names (see `dirl.tables.read`). An empty cell leaves the value of
    the file. The table may write the known slide_ids with folders and suffixes. Notes on the columns that
    were used and the rows that were left out are returned, too.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks these columns, contradicts itself on a slide, or gives an mpp that
        is not a number above 0.
    """
    remedy = f"write a header with slide_id and any of {', '.join(COLUMNS)}, then one line per slide"
    table = read_csv(path)
    found = {
        "patients": table.find_filled(PATIENT),
        "centres": table.find_filled(CENTRE),
        "mpp": table.find(("mpp",)),
    }
    used = {what: column for what, column in found.items() if column is not None}
    matched = match_slides(table, known, list(used.values()), path)
    if matched is None:
        there = ", ".join(table.columns) or "(none)"
        raise ConfigError(f"has the columns {there}", where=path, remedy=remedy)

    def value(row: Row, what: str) -> str:
        return row[used[what]] if what in used else ""

    for what, column in used.items():
        if strange := [row[column] for row in matched.rows.values() if has_control_characters(row[column])]:
            reason = f"{what} {strange[0]!r} contains a line break or another control character"
            raise ConfigError(reason, where=path, remedy="write it on one line")

    values = {
        slide: FromTable(
            value(row, "patients") or None,
            value(row, "centres") or None,
            _mpp(value(row, "mpp"), f"{path}, {slide}"),
        )
        for slide, row in matched.rows.items()
    }
    taken = [
        describe_column("slides", matched.column, matched.known),
        *(
            describe_column(what, name, [matched.rows[slide][name] for slide in matched.known])
            for what, name in used.items()
        ),
    ]
    return values, describe_table(table, matched, taken, used)


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = parse_number(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ConfigError(
            f"{text!r} is not an mpp", where=where, remedy="write it in µm/px, for example 0.25"
        )
    return value
