"""What the user states of slides in a table, since their files do not tell."""

import csv
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from dirl.errors import ConfigError

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


def read_slides_table(path: Path) -> dict[str, Stated]:
    """Read a CSV file with the column ``slide_id`` and any of ``patient_id``, ``centre`` and ``mpp``.

    Other columns are passed over; an empty field states nothing.

    Returns
    -------
    dict
        What is stated, by slide_id.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks these columns, names a slide twice, or an mpp is no number above 0.
    """
    remedy = f"a header with slide_id and any of {', '.join(COLUMNS)}, then a line per slide"
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            header, lines = list(reader.fieldnames or ()), list(reader)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=path, remedy="check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"not a CSV file in UTF-8 ({error})", where=path, remedy=remedy) from None
    if "slide_id" not in header or not set(COLUMNS) & set(header):
        raise ConfigError(f"has the columns {', '.join(header) or '(none)'}", where=path, remedy=remedy)
    table: dict[str, Stated] = {}
    for line in lines:
        slide_id, patient_id, centre, mpp = ((line.get(c) or "").strip() for c in ("slide_id", *COLUMNS))
        if slide_id in table:
            raise ConfigError(f"names {slide_id} twice", where=path, remedy="leave one line of it")
        table[slide_id] = Stated(patient_id or None, centre or None, _mpp(mpp, f"{path}, {slide_id}"))
    return table


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ConfigError(f"{text!r} is no mpp", where=where, remedy="write it in µm/px, as in 0.25")
    return value
