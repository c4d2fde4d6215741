"""`dirl cells-score`: predicted nuclei against annotated ones, image by image, one segmenter or several."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.cells.scoring.alignment import on_one_grid
from dirl.cells.scoring.metrics import SCORES, coverage_correlation, score, typed_pq
from dirl.cells.scoring.sources import FileLabels, LabelImage, Source, open_sources
from dirl.cells.token_coverage import TOKENS_UM
from dirl.core.errors import ConfigError
from dirl.core.files import replacing, write_json
from dirl.core.intervals import Units, choose_units, interval, means
from dirl.core.owner import own, owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, finish, new_card
from dirl.slides.base import SAME_MPP

COVERAGE = tuple(f"coverage_r_{side}um" for side in TOKENS_UM)
RESAMPLES, SEED = 1000, 0


@dataclass(frozen=True)
class ScoreTable:
    """Scores of predictions in images.

    Attributes
    ----------
    predictions
        Who predicted: the segmenters of a store, or the name of a file or folder.
    images
        Names of the n images.
    slides
        The slide that each is of; its own name where that is not known.
    measures
        Those of `dirl.cells.scoring.metrics.Scores`; ``coverage_r_4um`` and so on, where the mpp is known:
        the correlation of coverage over tokens of that size; ``pq_CLASS`` where the truth and a prediction
        name classes.
    values : ndarray of shape (predictions, n, measures)
        nan where a measure is not defined.
    covered : ndarray of shape (n,)
        Share of each image that was scored: of a slide, what its tiles cover.
    mpp
        µm/px that was scored at; None where it is not known.
    """

    predictions: tuple[str, ...]
    images: tuple[str, ...]
    slides: tuple[str, ...]
    measures: tuple[str, ...]
    values: NDArray[np.float64]
    covered: NDArray[np.float64]
    mpp: float | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are scored by themselves."""
        return tuple(name.removeprefix("pq_") for name in self.measures if name.startswith("pq_"))


@owning
def cells_score(
    predicted: Path,
    truth: Path,
    mpp: float | None = None,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> ScoreTable:
    """Score nuclei against annotated ones (`dirl cells-score`), one image in memory at a time.

    Images are matched by name: label files by their path in the folder, without suffixes; cells of a store
    by tile, or by slide, whose tiles are put together, where label files have the slides' names. Labels of
    another resolution are brought to the truth's by nearest neighbour.

    Parameters
    ----------
    predicted
        Label files (one, or a folder of them: 16-bit PNG, TIFF, or NPZ of one array), ``STORE/cells/NAME``,
        or ``STORE`` for all cells in it, the truth's own left out.
    truth
        Label files or ``STORE/cells/NAME``.
    mpp
        µm/px to score at, no finer than the truth's. Of label files, whose resolution nobody else knows, it
        is taken to be the truth's.
    out
        Directory for ``card.json``, ``summary.json`` and ``scores.csv``.
    overwrite
        Replace what was written there with other labels or settings.
    quiet
        Show no progress bar.

    Raises
    ------
    ConfigError
        If an image is missing on either side or cannot be read, sizes are not those of one field, the images
        differ in resolution and none is stated, or the truth is several.
    StoreError
        If a store has no such cells, or `out` holds something else.
    """
    ours, (theirs, *more) = open_sources(predicted), open_sources(truth)
    if more:
        remedy = f"name one, as in {theirs.place}"
        raise ConfigError("the truth is a store with cells of several names", where=truth, remedy=remedy)
    ours = [source for source in ours if source.place.resolve() != theirs.place.resolve()] or ours
    names = _images(ours, theirs, one_file=predicted.is_file() and truth.is_file())
    card = None
    if out is not None:
        inputs = {"truth": theirs.digest} | {f"predicted {source.title}": source.digest for source in ours}
        settings = {"mpp": mpp, "tokens_um": TOKENS_UM, "resamples": RESAMPLES, "seed": SEED}
        card = claim(out, new_card("cells-score", settings, inputs), overwrite=overwrite)
        own(out)  # finished scores are made again
    table = _score(ours, theirs, names, mpp, quiet)
    if out is not None and card is not None:
        write_json(out / "summary.json", summary(table))
        _write_csv(out / "scores.csv", table)
        finish(out, card, {"images": len(table.images), "predictions": len(table.predictions)})
    return table


def summary(table: ScoreTable) -> dict[str, Any]:
    """Return means over images with bootstrap intervals, and differences to the best, as JSON.

    Slides are resampled where the images are tiles of at least five, else images: the same for all
    predictions, so that their differences are paired. The best is the prediction of highest mean PQ. ``mpq``
    is the mean over classes of their mean PQ. An interval of a single image is None.
    """
    units = choose_units(np.array(table.slides), len(table.images), RESAMPLES, SEED)
    means_of = [_means(table, values, units) for values in table.values]
    names = [*table.measures, *(["mpq"] if table.classes else [])]
    pq = [values[SCORES.index("pq")] for values, _ in means_of]
    best = int(np.argmax(pq))
    differences = {
        name: _intervals(names, values - means_of[best][0], drawn - means_of[best][1], units)
        for i, (name, (values, drawn)) in enumerate(zip(table.predictions, means_of, strict=True))
        if i != best
    }
    return {
        "mpp": table.mpp,
        "images": len(table.images),
        "covered": float(table.covered.mean()),
        "interval": {
            "over": "slides" if units.kind == "slides" and len(units) < len(table.images) else "images",
            "units": len(units),
            "resamples": units.resamples,
            "level": 0.95,
        },
        "mean": {
            name: _intervals(names, values, drawn, units)
            for name, (values, drawn) in zip(table.predictions, means_of, strict=True)
        },
        "best": table.predictions[best],
        "minus_best": differences,
    }


def _images(ours: Sequence[Source], theirs: Source, one_file: bool) -> list[tuple[str, str]]:
    """Pair the images: their name for predictions, and for the truth."""
    if one_file:
        return [(ours[0].names[0], theirs.names[0])]
    # Whoever has files says which images, whether tiles or slides; a store has many.
    by_files = isinstance(theirs, FileLabels) or not isinstance(ours[0], FileLabels)
    asked = theirs.names if by_files else ours[0].names
    sides: list[tuple[Source, Sequence[str]]] = [(source, asked) for source in [*ours, theirs]]
    if isinstance(theirs, FileLabels):
        sides += [(theirs, source.names) for source in ours if isinstance(source, FileLabels)]
    for source, wanted in sides:
        missing = [name for name in wanted if name not in source]
        if len(missing) == len(wanted):
            raise ConfigError(
                f"no image in common: asked for {_some(missing)}; here are {_some(source.names)}",
                where=source.place,
                remedy="label files have the names of the other side's files, tiles or slides",
            )
        if missing:
            raise ConfigError(
                f"no labels for {_some(missing)}",
                where=source.place,
                remedy="give both sides the same images",
            )
    return [(name, name) for name in asked]


def _score(
    ours: Sequence[Source], theirs: Source, names: Sequence[tuple[str, str]], mpp: float | None, quiet: bool
) -> ScoreTable:
    typed = [bool(set(theirs.classes) & set(source.classes)) for source in ours]
    classes = tuple(theirs.classes) if any(typed) else ()
    rows: list[list[tuple[float, ...]]] = [[] for _ in ours]
    covered: list[float] = []
    at: float | None = None
    with bar("Scoring nuclei", len(names), quiet=quiet) as advance:
        for number, (asked, name) in enumerate(names):
            truth = theirs.read(name)
            share = 1.0
            for source, has_classes, done in zip(ours, typed, rows, strict=True):
                try:
                    image, other = on_one_grid(source.read(asked), truth, mpp)
                except ConfigError as error:
                    where = f"{source.place}, {asked}" if error.where is None else error.where
                    raise ConfigError(error.reason, where=where, remedy=error.remedy) from None
                at = other.mpp if number == 0 else at
                if at is not None and other.mpp is not None and abs(other.mpp / at - 1) > SAME_MPP:
                    reason = f"is of {other.mpp:.3g} µm/px, {names[0][1]} of {at:.3g}"
                    remedy = "state one for all with --mpp"
                    raise ConfigError(reason, where=f"{theirs.place}, {name}", remedy=remedy)
                by_class = _typed(image, other, classes) if has_classes else (np.nan,) * len(classes)
                done.append((*_measure(image, other), *by_class))
                share = 1.0 if other.seen is None else float(other.seen.mean())
            covered.append(share)
            advance()
    return ScoreTable(
        tuple(source.title for source in ours),
        tuple(name for _, name in names),
        tuple(_slide(ours[0], asked, theirs, name) for asked, name in names),
        (*SCORES, *(COVERAGE if at is not None else ()), *(f"pq_{name}" for name in classes)),
        np.array(rows),
        np.array(covered),
        at,
    )


def _slide(ours: Source, asked: str, theirs: Source, name: str) -> str:
    known = theirs.slide(name)
    return ours.slide(asked) if known == name else known


def _measure(predicted: LabelImage, truth: LabelImage) -> tuple[float, ...]:
    agreement = astuple(score(predicted.labels, truth.labels))
    if truth.mpp is None:
        return agreement
    tokens_px = [max(1, round(side / truth.mpp)) for side in TOKENS_UM]
    return (
        *agreement,
        *(coverage_correlation(predicted.labels, truth.labels, side, truth.seen) for side in tokens_px),
    )


def _typed(predicted: LabelImage, truth: LabelImage, classes: Sequence[str]) -> tuple[float, ...]:
    nothing = np.empty(0, np.int32)
    ids = {name: truth.class_ids.get(name, nothing) for name in classes}
    return tuple(typed_pq(predicted.labels, truth.labels, predicted.class_ids, ids).values())


def _means(
    table: ScoreTable, values: NDArray[np.float64], units: Units
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Means over images and over resampled ones, the mPQ behind the measures."""
    value, drawn = means(values, units)
    if not table.classes:
        return value, drawn
    first = len(table.measures) - len(table.classes)
    both = [np.append(part, _nanmean(part[..., first:])[..., None], axis=-1) for part in (value, drawn)]
    return both[0], both[1]


def _nanmean(values: NDArray[np.floating]) -> NDArray[np.floating]:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(-1) / known.sum(-1))


def _intervals(
    names: Sequence[str], values: NDArray[np.floating], drawn: NDArray[np.floating], units: Units
) -> dict[str, dict[str, float | None]]:
    found = {name: interval(values[i], drawn[:, i]) for i, name in enumerate(names)}
    if len(units) > 1:
        return found
    return {name: one | {"low": None, "high": None} for name, one in found.items()}


def _write_csv(path: Path, table: ScoreTable) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["prediction", "image", "slide", "covered", *table.measures])
        for prediction, values in zip(table.predictions, table.values, strict=True):
            for image, slide, covered, row in zip(
                table.images, table.slides, table.covered, values, strict=True
            ):
                cells = ("" if np.isnan(value) else f"{value:.6g}" for value in row)
                writer.writerow([prediction, image, slide, f"{covered:.6g}", *cells])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
