"""`dirl init`: a first table, recipe and study for a folder of slides, to be edited by their owner."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dirl.core.errors import ConfigError, DirlError, raise_failures
from dirl.core.files import write_text
from dirl.core.progress import counted
from dirl.slides.cohort_check import SlideCheck, cohort_check
from dirl.slides.discovery import TilesInput, find_inputs

COHORT, RECIPE, STUDY = "cohort.csv", "recipe.yaml", "study.yaml"
COLUMNS = ("path", "mpp", "patient", "centre", "label")
MPP = 0.5
TILE_PX = 128
BATCH = 64


@dataclass(frozen=True)
class Draft:
    """The three files, and what was found in the slides.

    Attributes
    ----------
    cohort, recipe, study
        The files.
    slides
        The slides in the table.
    failures
        Slides that cannot be used and are not in the table, with the reason.
    mpp
        Resolution of the tiles that the recipe expects, in µm/px.
    tiles
        About how many tiles of tissue there are at this resolution.
    """

    cohort: Path
    recipe: Path
    study: Path
    slides: tuple[SlideCheck, ...]
    failures: Mapping[str, DirlError]
    mpp: float
    tiles: int


def draft(
    folder: Path,
    out: Path = Path(),
    *,
    mpp_override: float | None = None,
    workers: int = 1,
    quiet: bool = False,
) -> Draft:
    """Look at a folder of slides, and write a cohort's table, a recipe and a study for them.

    Parameters
    ----------
    folder
        Slides, at any depth.
    out
        Directory to write to.
    mpp_override
        µm/px of slides whose files give none.
    workers
        Number of processes; each opens one slide at a time.
    quiet
        Show no progress and no notes.

    Raises
    ------
    SlideError
        If the folder does not exist or holds no slide.
    ConfigError
        If it holds ready-made tiles, or one of the files exists.
    DirlError
        If no slide can be used.
    """
    files = cohort, recipe, study = out / COHORT, out / RECIPE, out / STUDY
    if there := [path for path in files if path.exists()]:
        remedy = "rename it, or name another folder with `dirl init --out`"
        raise ConfigError("exists", where=there[0], remedy=remedy)
    found = find_inputs([folder])
    if any(isinstance(one, TilesInput) for one in found):
        reason, remedy = "holds ready-made tiles, no slides", "give the folder to `dirl tile` itself"
        raise ConfigError(reason, where=folder, remedy=remedy)
    slides, failures = _look([{"path": str(one.path)} for one in found], workers, quiet)
    if mpp_override is not None and failures:
        lacking = [one for one in found if one.slide_id in failures]
        stated = [{"path": str(one.path), "mpp": str(mpp_override)} for one in lacking]
        more, failures = _look(stated, workers, quiet)
        slides = (*slides, *more)
    if not slides:
        raise_failures(failures, 0)
    mpp = max([MPP, *(one.mpp for one in slides)])
    tiles = round(sum(_tissue_um2(one) for one in slides) / (TILE_PX * mpp) ** 2)
    facts = f"{counted(len(slides), 'slide')}, about {tiles} tiles of {TILE_PX} px at {mpp:g} µm/px"
    texts = (
        _table([_row(one, out) for one in slides], COLUMNS),
        _RECIPE.format(facts=facts, mpp=mpp, size=TILE_PX, batch=BATCH),
        _STUDY.format(facts=facts),
    )
    out.mkdir(parents=True, exist_ok=True)
    for path, text in zip(files, texts, strict=True):
        write_text(path, text)
    return Draft(cohort, recipe, study, slides, failures, mpp, tiles)


def _look(
    rows: list[dict[str, str]], workers: int, quiet: bool
) -> tuple[tuple[SlideCheck, ...], Mapping[str, DirlError]]:
    """Open the slides of some rows of a table; return those that can be used, and why others cannot."""
    with TemporaryDirectory() as temporary:
        table = Path(temporary) / COHORT
        write_text(table, _table(rows, list(rows[0])))
        checked = cohort_check(table, workers=workers, quiet=quiet)
    return checked.slides, checked.failures


def _row(one: SlideCheck, out: Path) -> dict[str, str]:
    return {
        "path": os.path.relpath(one.path, out.absolute()),
        "mpp": f"{one.mpp:g}" if one.mpp_from == "table" else "",
        "patient": one.patient_id or "",
        "centre": one.centre or "",
    }


def _tissue_um2(one: SlideCheck) -> float:
    width, height = one.size_px
    return one.tissue * width * height * one.mpp**2


def _table(rows: Iterable[Mapping[str, str]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


_RECIPE = """\
# How an encoder is pretrained. Drafted for {facts}.
# Before:   `dirl tile --cohort cohort.csv --out store --mpp {mpp:g} --size {size}`, then `dirl cells store`
# Command:  `dirl pretrain recipe.yaml --store store --out run`
# Vanilla:  `dirl pretrain recipe.yaml --store store --out vanilla --set dense.weight=0`
# These sizes fit two CPU cores. For GPUs, begin with a shipped recipe, such as vit-s16-simclr.

steps: 120                     # a first look; hundreds of epochs are usual
batch: {batch}                      # at most the number of training tiles
holdout: 0.15                  # share of the tiles that is not trained on
checkpoint_every_steps: 20     # an interrupted run goes on from here
log_every_steps: 2
views:
  size_px: 96                  # side of a crop, a multiple of patch_px
  crop_area: [0.4, 1.0]        # share of the tile that a crop takes
encoder:
  name: vit_tiny_patch16_224   # any plain vision transformer of timm
  patch_px: 12                 # side of a patch token: about a nucleus
  width: 128
  depth: 4
  heads: 4
objective:
  name: simclr                 # or moco, byol, vicreg, dino, dinov2
  hidden_width: 512
  output_width: 64
dense:
  weight: 1.0                  # 0: no nuclei
  regions: tissue              # nuclei, and the rest of the tissue
  extract: cls
  negatives: regions           # tiles, for an objective without negatives
optimiser:
  lr: 4.0e-3
"""

_STUDY = """\
# Do nuclei change the attention, and are they the cause? Drafted for {facts}.
# Command:  `dirl study study.yaml --store store --out study`
# Each arm is trained once a seed: here 3 arms x 3 seeds = 9 runs.

recipe: recipe.yaml
objectives:
  simclr:
arms:
  vanilla: {{dense.weight: 0}}         # without nuclei
  nuclei:
  grid: {{dense.control: grid}}        # boxes in place of nuclei
seeds: [0, 1, 2]
contrasts:
  - [nuclei, vanilla]
  - [nuclei, grid]
audit: {{tiles: 256, figures: 3}}
# To score the features, too, fill in the column label of cohort.csv:
# probe: {{labels: "cohort.csv,label=label"}}
"""
