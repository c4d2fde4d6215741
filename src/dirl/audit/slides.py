"""An audit of slides without a store of the user's: some of their tiles and nuclei are made first."""

import math
from collections.abc import Sequence
from pathlib import Path

from dirl.audit.run import audit
from dirl.audit.summary import AuditSummary
from dirl.cells.registry import cells_name
from dirl.cells.run import cells
from dirl.config import AuditConfig, CellsConfig, TileConfig
from dirl.core.results import Result
from dirl.slides.discovery import find_inputs, given_paths
from dirl.store.build import tile


def tiles_beside(out: Path) -> Path:
    """Return the store of an audit's tiles: ``audit-tiles`` beside ``audit``."""
    return out.with_name(f"{out.name}-tiles")


def audit_slides(
    encoders: Sequence[str],
    slides: Sequence[Path],
    out: Path,
    config: AuditConfig | None = None,
    *,
    cut: TileConfig | None = None,
    segmenter: str = "hematoxylin",
    cohort: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[AuditSummary]:
    """Draw tiles from slides, find or read their nuclei, and audit encoders on them.

    Each slide gives equally many tiles, drawn from all of its tissue. They are kept in a store beside `out`,
    ``OUT-tiles``, so that another audit can take the same tiles. The same call makes only what is missing.

    Parameters
    ----------
    encoders
        Specs as `load_encoder` takes them. The others are compared with the first.
    slides
        Slides, or folders of slides. None: those of the cohort.
    out
        Directory of the audit; see `dirl.audit`.
    config
        As for `dirl.audit`; ``cells`` is not used.
    cut
        Resolution and size of the tiles.
    segmenter
        Where nuclei come from: a segmenter, or files such as ``geojson:DIR``; see `CellsConfig`.
    cohort
        The cohort's table; see `dirl.tables.cohort`.
    device
        ``auto``, or a torch device.
    overwrite
        Replace an audit of other encoders, slides or settings, and its tiles.
    quiet
        Show no progress.

    Raises
    ------
    SlideError, PartlyFailedError
        If slides cannot be read.
    ConfigError
        If the table, the segmenter or an encoder's name is wrong.
    EncoderError, StoreError
        As for `dirl.audit`.
    """
    config = config or AuditConfig()
    found = find_inputs(given_paths(slides, cohort))
    each = math.ceil(config.tiles / len(found))
    drawn = (cut or TileConfig()).model_copy(update={"max_tiles": each, "max_tiles_from": "tissue"})
    store = tiles_beside(out)
    tile([one.path for one in found], store, drawn, cohort=cohort, overwrite=overwrite, quiet=quiet)
    nuclei = CellsConfig(segmenter=segmenter)
    cells(store, nuclei, device=device, overwrite=overwrite, quiet=quiet)
    config = config.model_copy(update={"cells": cells_name(nuclei)})
    return audit(encoders, store, out, config, device=device, overwrite=overwrite, quiet=quiet)
