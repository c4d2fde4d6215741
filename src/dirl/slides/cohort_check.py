"""`dirl cohort check`: what is understood of a cohort's table, slide by slide, before any tile is cut."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dirl.core.errors import DirlError, as_dirl_error
from dirl.core.parallel import each
from dirl.core.progress import bar
from dirl.slides.discovery import SlideInput, TilesInput, add_cohort, find_inputs
from dirl.slides.reading import open_slide
from dirl.slides.tissue import find_tissue
from dirl.tables.cohort import cohort_slides


@dataclass(frozen=True)
class SlideCheck:
    """What is known of one slide of a cohort.

    Attributes
    ----------
    size_px
        Width and height at level 0.
    mpp, mpp_from
        Resolution of level 0 in µm/px, and whether the table or the file gives it.
    levels
        Number of levels of the pyramid.
    tissue
        Share of the slide that is tissue.
    patient_id, centre
        By the table, else by the file; None if unknown.
    """

    slide_id: str
    path: Path
    size_px: tuple[int, int]
    mpp: float
    mpp_from: Literal["table", "file"]
    levels: int
    tissue: float
    patient_id: str | None
    centre: str | None

    @property
    def missing(self) -> tuple[str, ...]:
        """What later commands may need, and neither the table nor the file states."""
        facts = {"patient": self.patient_id, "centre": self.centre, "tissue": self.tissue}
        return tuple(name for name, value in facts.items() if not value)


@dataclass(frozen=True)
class CohortCheck:
    """A cohort that was checked: the slides that can be used, and why others cannot."""

    slides: tuple[SlideCheck, ...]
    failures: Mapping[str, DirlError]

    def rows(self) -> list[dict[str, object]]:
        """One row for each slide that can be used."""
        return [asdict(one) | {"missing": one.missing} for one in self.slides]


def cohort_check(cohort: Path, *, workers: int = 1, quiet: bool = False) -> CohortCheck:
    """Open every slide of a cohort's table, and return what is understood of it.

    A slide is read at low power only. Nothing is written.

    Parameters
    ----------
    cohort
        CSV file with the slides' paths, and any of patient, centre and mpp; see `dirl.tables.cohort`.
    workers
        Number of processes; each opens one slide at a time.
    quiet
        Show no progress and no notes.

    Raises
    ------
    ConfigError
        If the table cannot be read, names no files, or contradicts itself.
    """
    found = add_cohort(find_inputs(cohort_slides(cohort)), cohort, quiet=quiet)
    slides: dict[str, SlideCheck] = {}
    failures: dict[str, DirlError] = {}
    with bar("Checking slides", len(found), quiet=quiet) as advance:
        for item, result in each(_check, found, workers):
            if isinstance(result, Exception):
                failures[item.slide_id] = as_dirl_error(result, item.path)
            else:
                slides[item.slide_id] = result
            advance(note=item.slide_id)
    names = [item.slide_id for item in found]
    return CohortCheck(
        tuple(slides[name] for name in names if name in slides),
        {name: failures[name] for name in names if name in failures},
    )


def _check(item: SlideInput | TilesInput) -> SlideCheck:
    stated = item.from_table
    slide = open_slide(item.path, stated.mpp, item.slide_id)
    try:
        info, tissue = slide.info, find_tissue(slide)
    finally:
        slide.close()
    return SlideCheck(
        slide_id=item.slide_id,
        path=item.path,
        size_px=info.size_px,
        mpp=info.mpp,
        mpp_from="file" if stated.mpp is None else "table",
        levels=len(info.level_downsamples),
        tissue=tissue.fraction,
        patient_id=stated.patient_id or info.patient_id,
        centre=stated.centre or info.centre,
    )
