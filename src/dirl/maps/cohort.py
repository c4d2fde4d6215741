"""Maps of all slides of a cohort, one after another."""

from pathlib import Path
from typing import Literal

from dirl.config import MapConfig
from dirl.core.device import choose_device
from dirl.core.errors import DirlError, SlideError, as_dirl_error, raise_failures
from dirl.core.files import no_room
from dirl.core.progress import say
from dirl.core.results import Result
from dirl.encoders.loading import load_encoder
from dirl.maps.run import map_slide
from dirl.maps.summary import MapSummary
from dirl.slides.discovery import TilesInput, add_cohort, find_inputs
from dirl.tables.cohort import cohort_slides


def map_cohort(
    encoder: str,
    cohort: Path,
    out: Path,
    config: MapConfig | None = None,
    *,
    device: str = "auto",
    batch: int = 32,
    workers: int = 2,
    to: Literal["qupath"] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Result[MapSummary]]:
    """Map each slide of a cohort into a folder of its own, and return the maps by slide.

    The table gives the files, and may give each slide's mpp. The same call continues interrupted work, and
    keeps finished maps. See `map_slide` for the other arguments.

    Raises
    ------
    ConfigError
        If the table cannot be used.
    SlideError
        If it names ready-made tiles, or if its only slide cannot be mapped.
    PartlyFailedError
        If some of several slides cannot be mapped. The others are finished.
    """
    config = config or MapConfig()
    found = add_cohort(find_inputs(cohort_slides(cohort)), cohort, quiet=quiet)
    loaded = load_encoder(encoder, device=choose_device(device))
    done: dict[str, Result[MapSummary]] = {}
    failures: dict[str, DirlError] = {}
    for number, item in enumerate(found, start=1):
        if isinstance(item, TilesInput):
            raise SlideError("ready-made tiles, not a slide", where=item.path, remedy="remove its row")
        say(f"{number}/{len(found)} {item.slide_id}", quiet=quiet)
        mpp = item.from_table.mpp or config.mpp_override
        try:
            done[item.slide_id] = map_slide(
                loaded,
                item.path,
                out / item.slide_id,
                config.model_copy(update={"mpp_override": mpp}),
                batch=batch,
                workers=workers,
                to=to,
                overwrite=overwrite,
                quiet=quiet,
            )
        except (DirlError, OSError) as error:
            if no_room(error):
                raise
            failures[item.slide_id] = as_dirl_error(error, item.path)
    raise_failures(failures, len(done))
    return done
