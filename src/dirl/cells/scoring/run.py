"""`dirl cells-score`: compare the nuclei of one or several segmenters with annotated nuclei."""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.cells.scoring.alignment import on_one_grid
from dirl.cells.scoring.metrics import SCORES, coverage_correlation, score_nuclei, typed_pq
from dirl.cells.scoring.sources import FileLabels, LabelImage, Source, open_sources
from dirl.cells.scoring.summary import Bootstrap, ScoreSummary
from dirl.cells.token_shares import TOKENS_UM
from dirl.core.card import new_card
from dirl.core.claim import check_claim
from dirl.core.errors import ConfigError
from dirl.core.files import replacing
from dirl.core.intervals import Estimate, Units, choose_units, estimate, means
from dirl.core.progress import bar
from dirl.core.results import Result, read_as
from dirl.core.stage import Work, carry_out
from dirl.slides.base import SAME_MPP

COVERAGE = tuple(f"coverage_r_{side}um" for side in TOKENS_UM)
RESAMPLES, SEED = 1000, 0


@dataclass(frozen=True)
class ScoreTable:
    """Scores of predictions in images.

    Attributes
    ----------
    predictions
        Names of the predictions: segmenters of a store, or a file or folder.
    images
        Names of the n images.
    slides
        Slide of each image, or its own name if the slide is not stated.
    measures
        Names of the scores: those of `dirl.cells.scoring.metrics.Scores`; with an mpp the correlations of
        coverage over tokens, ``coverage_r_4um`` and so on; with classes ``pq_CLASS``.
    values : ndarray of shape (predictions, n, measures)
        Scores; nan if one is not defined.
    covered : ndarray of shape (n,)
        Share of each image that was scored; for a slide, the share that its tiles cover.
    mpp
        µm/px of the scored labels; None if it is not stated.
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
        """Names of the classes that have a score."""
        return tuple(name.removeprefix("pq_") for name in self.measures if name.startswith("pq_"))


def cells_score(
    predicted: Path,
    truth: Path,
    mpp: float | None = None,
    *,
    out: Path,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[ScoreSummary]:
    """Compare nuclei with annotated nuclei (`dirl cells-score`), with one image in memory at a time.

    Images are matched by name. The name of a label file is its path in the folder without suffixes. Cells of
    a store are matched by tile, or by slide if the label files are named after slides. A slide is assembled
    from its tiles. Labels of another resolution are resampled to the truth's by nearest neighbour.

    Parameters
    ----------
    predicted
        Label files (one, or a folder: 16-bit PNG, TIFF, or NPZ of one array), ``STORE/cells/NAME``, or
        ``STORE`` for all cells in it, except the truth.
    truth
        Label files or ``STORE/cells/NAME``.
    mpp
        µm/px to score at, not finer than the truth's. Label files do not state a resolution, so this is the
        resolution of a truth in label files.
    out
        Directory for ``card.json``, ``summary.json`` and ``scores.csv``.
    overwrite
        Replace scores of other labels or settings.
    quiet
        Show no progress bar.

    Raises
    ------
    ConfigError
        If an image is missing on either side or cannot be read, or if sizes do not fit one field. Also if
        images have several resolutions and none is stated, or if the truth is a store with several cells.
    StoreError
        If a store has no such cells, or `out` has other content.
    """
    score_images(predicted, truth, mpp, out=out, overwrite=overwrite, quiet=quiet)
    return read_as(out, ScoreSummary)


def score_images(
    predicted: Path,
    truth: Path,
    mpp: float | None = None,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> ScoreTable:
    """Return the scores of every image; see `cells_score`. Without `out`, nothing is written."""
    predictions, (target, *more) = open_sources(predicted), open_sources(truth)
    if more:
        remedy = f"name one, as in {target.place}"
        raise ConfigError("the truth is a store with cells of several names", where=truth, remedy=remedy)
    others = [source for source in predictions if source.place.resolve() != target.place.resolve()]
    predictions = others or predictions
    names = _images(predictions, target, one_file=predicted.is_file() and truth.is_file())
    inputs = {"truth": target.digest}
    inputs |= {f"predicted {source.title}": source.digest for source in predictions}
    settings = {"mpp": mpp, "tokens_um": TOKENS_UM, "resamples": RESAMPLES, "seed": SEED}
    card = new_card("cells-score", settings, inputs)
    if out is not None:
        check_claim(out, card, overwrite=overwrite)  # refused before the work
    table = _score(predictions, target, names, mpp, quiet)

    def write(work: Work) -> ScoreSummary:
        _write_csv(work.out / "scores.csv", table)
        return summarise_scores(table)

    if out is not None:
        carry_out(card, out, ScoreSummary, write, overwrite=overwrite, again=True)
    return table


def summarise_scores(table: ScoreTable) -> ScoreSummary:
    """Return means over images with bootstrap intervals, and differences to the best.

    Slides are resampled if the images are tiles of at least five slides, else images. All predictions share
    the samples, so their differences are paired. The best prediction has the highest mean PQ. ``mpq`` is the
    mean over classes of their mean PQ. The interval of a single image is None.
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
    return ScoreSummary(
        mpp=table.mpp,
        images=len(table.images),
        covered=float(table.covered.mean()),
        interval=Bootstrap(
            over="slides" if units.kind == "slides" and len(units) < len(table.images) else "images",
            units=len(units),
            resamples=units.resamples,
            level=0.95,
        ),
        mean={
            name: _intervals(names, values, drawn, units)
            for name, (values, drawn) in zip(table.predictions, means_of, strict=True)
        },
        best=table.predictions[best],
        minus_best=differences,
    )


def _images(predictions: Sequence[Source], target: Source, one_file: bool) -> list[tuple[str, str]]:
    """Pair the images: the name in the predictions, and the name in the truth."""
    if one_file:
        return [(predictions[0].names[0], target.names[0])]
    # If one side has files, their names decide which images are compared. A store has many more.
    by_target = isinstance(target, FileLabels) or not isinstance(predictions[0], FileLabels)
    asked = target.names if by_target else predictions[0].names
    sides: list[tuple[Source, Sequence[str]]] = [(source, asked) for source in [*predictions, target]]
    if isinstance(target, FileLabels):
        sides += [(target, source.names) for source in predictions if isinstance(source, FileLabels)]
    for source, wanted in sides:
        missing = [name for name in wanted if name not in source]
        if len(missing) == len(wanted):
            raise ConfigError(
                f"no image in common: expected {_some(missing)}; found {_some(source.names)}",
                where=source.place,
                remedy="name label files after the other side's files, tiles or slides",
            )
        if missing:
            raise ConfigError(
                f"no labels for {_some(missing)}",
                where=source.place,
                remedy="give both sides the same images",
            )
    return [(name, name) for name in asked]


def _score(
    predictions: Sequence[Source],
    target: Source,
    names: Sequence[tuple[str, str]],
    mpp: float | None,
    quiet: bool,
) -> ScoreTable:
    typed = [bool(set(target.classes) & set(source.classes)) for source in predictions]
    classes = tuple(target.classes) if any(typed) else ()
    rows: list[list[tuple[float, ...]]] = [[] for _ in predictions]
    covered: list[float] = []
    at: float | None = None
    with bar("Scoring nuclei", len(names), quiet=quiet) as advance:
        for number, (asked, name) in enumerate(names):
            truth = target.read(name)
            share = 1.0
            for source, has_classes, done in zip(predictions, typed, rows, strict=True):
                try:
                    image, other = on_one_grid(source.read(asked), truth, mpp)
                except ConfigError as error:
                    where = f"{source.place}, {asked}" if error.where is None else error.where
                    raise ConfigError(error.reason, where=where, remedy=error.remedy) from None
                at = other.mpp if number == 0 else at
                if at is not None and other.mpp is not None and abs(other.mpp / at - 1) > SAME_MPP:
                    reason = f"has {other.mpp:.3g} µm/px, but {names[0][1]} has {at:.3g}"
                    remedy = "state one for all with --mpp"
                    raise ConfigError(reason, where=f"{target.place}, {name}", remedy=remedy)
                by_class = _typed(image, other, classes) if has_classes else (np.nan,) * len(classes)
                done.append((*_measure(image, other), *by_class))
                share = 1.0 if other.seen is None else float(other.seen.mean())
            covered.append(share)
            advance()
    return ScoreTable(
        tuple(source.title for source in predictions),
        tuple(name for _, name in names),
        tuple(_slide(predictions[0], asked, target, name) for asked, name in names),
        (*SCORES, *(COVERAGE if at is not None else ()), *(f"pq_{name}" for name in classes)),
        np.array(rows),
        np.array(covered),
        at,
    )


def _slide(prediction: Source, asked: str, target: Source, name: str) -> str:
    slide = target.slide(name)
    return prediction.slide(asked) if slide == name else slide


def _measure(predicted: LabelImage, truth: LabelImage) -> tuple[float, ...]:
    agreement = astuple(score_nuclei(predicted.labels, truth.labels))
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
    """Means over images and over resampled images; the mPQ comes after the measures."""
    value, drawn = means(values, units)
    if not table.classes:
        return value, drawn
    first = len(table.measures) - len(table.classes)
    both = [np.append(part, _nanmean(part[..., first:])[..., None], axis=-1) for part in (value, drawn)]
    return both[0], both[1]


def _nanmean(values: NDArray[np.floating]) -> NDArray[np.floating]:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0).sum(-1) / defined.sum(-1))


def _intervals(
    names: Sequence[str], values: NDArray[np.floating], drawn: NDArray[np.floating], units: Units
) -> dict[str, Estimate]:
    found = {name: estimate(values[i], drawn[:, i]) for i, name in enumerate(names)}
    if len(units) > 1:
        return found
    return {name: Estimate(one.value, None, None) for name, one in found.items()}


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
