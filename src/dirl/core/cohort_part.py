"""A part of a cohort: the slides that one of several jobs works on, such as a task of a SLURM array.

Each part ends with a record in the output. The part that ends last finds the records of all others, and
writes what covers the whole cohort, such as the index of a store.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from dirl.core.digests import digest
from dirl.core.errors import ConfigError, DirlError
from dirl.core.files import read_json_with_digest, remove, write_json_with_digest
from dirl.core.layout import COHORT_PARTS

ARRAY_TASK = "SLURM_ARRAY_TASK_ID"


@dataclass(frozen=True)
class CohortPart:
    """Part ``index`` of ``count``, counted from 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"there is no such part: {self.count} parts are 0 to {self.count - 1}",
                where=f"part {self.index}/{self.count}",
                remedy="count the parts from 0, as in 0/4 to 3/4",
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, name: str) -> bool:
        """Whether a slide belongs to the part. This depends on its name only, not on the other slides."""
        number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
        return number % self.count == self.index


WHOLE = CohortPart(0, 1)


def parse_part(text: str | None) -> CohortPart:
    """Read ``I/N``, or ``N`` in a task of a SLURM array, whose number is then ``I``. None is all slides.

    Raises
    ------
    ConfigError
        If it has another form, or there is no such part.
    """
    if text is None:
        return WHOLE
    index, _, count = text.rpartition("/")
    if "/" not in text and ARRAY_TASK in os.environ:
        index = os.environ[ARRAY_TASK]
    if not (re.fullmatch(r"[0-9]{1,9}", index) and re.fullmatch(r"[0-9]{1,9}", count)):
        raise ConfigError(
            f"not a part of a cohort: {text!r}",
            where="--part",
            remedy="give --part I/N, as in --part 0/4; in a SLURM array --part N is enough",
        )
    return CohortPart(int(index), int(count))


def refuse_overwrite(part: CohortPart, overwrite: bool) -> None:
    """Raise a `ConfigError` if a part is to replace an output, of which other parts make the rest."""
    if overwrite and part != WHOLE:
        raise ConfigError(
            "a part would remove the slides of other parts",
            where=f"overwriting in part {part}",
            remedy="give another output, or overwrite without parts",
        )


def end_part(
    directory: Path, part: CohortPart, names: Iterable[str], failures: Mapping[str, DirlError]
) -> dict[str, DirlError] | None:
    """Record that a part of the slides `names` has ended. Return the failures of all parts if it is the last.

    The caller owns the directory. None tells that other parts have not ended. A part of other slides, or of
    another number of parts, does not count. Without parts, the failures are those of the caller.
    """
    folder = directory / COHORT_PARTS
    if part == WHOLE:
        remove(folder)  # what parts recorded is no longer true
        return dict(failures)
    slides = digest(sorted(names))
    reasons = {name: error.reason for name, error in failures.items()}
    folder.mkdir(exist_ok=True)
    write_json_with_digest(_record(folder, part), {"slides": slides, "failures": reasons})
    everyone: dict[str, DirlError] = {}
    for index in range(part.count):
        record = read_json_with_digest(_record(folder, CohortPart(index, part.count)))
        if record is None or record["slides"] != slides:
            return None
        everyone |= {name: DirlError(reason, where=name) for name, reason in record["failures"].items()}
    return everyone


def _record(folder: Path, part: CohortPart) -> Path:
    return folder / f"{part.index}-of-{part.count}.json"
