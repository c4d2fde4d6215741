"""What the user states of slides in a table, since their files do not tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from dirl.core.boundary import is_nameable
from dirl.core.errors import ConfigError
from dirl.tables.match import match_slides
from dirl.tables.notes import account, found_in
from dirl.tables.read import CENTRE, PATIENT, Row, number, read_table

COLUMNS = ("patient_id", "centre", "mpp")


@dataclass(frozen=True)
class Stated:
    """What is stated of one slide; None leaves it to the file.

    Attributes
    ----------
    patient_id
        Patient.
    centre
        Where the slide was made.
    mpp
        Resolution of level 0, in µm/px; it stands against what the file says.
    """

    patient_id: str | None = None
    centre: str | None = None
    mpp: float | None = None


UNSTATED = Stated()


def read_slides_table(path: Path, known: Sequence[str]) -> tuple[dict[str, Stated], list[str]]:
    """Read a CSV file with a column of slides and any of patients, centres and ``mpp``.

    Slides, patients and centres may have any of the usual names (see `dirl.tables.read`). A missing value
    states nothing.

    Parameters
    ----------
    path
        The file.
    known
        Ids of the slides that it is read for; it may name them with folders and endings.

    Returns
    -------
    tuple
        What is stated, by slide_id, and notes on what was taken from which column and what was left out.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks these columns, says two things of one slide, or an mpp is no number
        above 0.
    """
    remedy = f"a header with slide_id and any of {', '.join(COLUMNS)}, then a line per slide"
    table = read_table(path)
    found = {
        "patients": table.find_filled(PATIENT),
        "centres": table.find_filled(CENTRE),
        "mpp": table.find(("mpp",)),
    }
    used = {what: column for what, column in found.items() if column is not None}
    matched = match_slides(table, known, list(used.values()), path) if used else None
    if matched is None:
        there = ", ".join(table.columns) or "(none)"
        raise ConfigError(f"has the columns {there}", where=path, remedy=remedy)

    def value(row: Row, what: str) -> str:
        return row[used[what]] if what in used else ""

    for what, column in used.items():
        if strange := [row[column] for row in matched.rows.values() if not is_nameable(row[column])]:
            reason = f"{what} {strange[0]!r} holds a line break or another control character"
            raise ConfigError(reason, where=path, remedy="write it in one line")

    stated = {
        slide: Stated(
            value(row, "patients") or None,
            value(row, "centres") or None,
            _mpp(value(row, "mpp"), f"{path}, {slide}"),
        )
        for slide, row in matched.rows.items()
    }
    taken = [
        found_in("slides", matched.column, matched.known),
        *(
            found_in(what, name, [matched.rows[slide][name] for slide in matched.known])
            for what, name in used.items()
        ),
    ]
    return stated, account(table, matched, taken, used)


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = number(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ConfigError(f"{text!r} is no mpp", where=where, remedy="write it in µm/px, as in 0.25")
    return value
