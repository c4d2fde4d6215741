"""`dirl readouts`: which vector of an encoder tells classes apart best, at equal width."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import ReadoutsConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.intervals import Estimate
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.loading import load_encoder, warn_resolution
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.scores import Scored, score_classes
from dirl.evaluate.common.task import TileTask, caveats, prepare_task, task_facts
from dirl.evaluate.probe.cross_validate import by_linear, by_neighbours
from dirl.evaluate.probe.fewshot import few_shot
from dirl.evaluate.readouts.read import CLASS, equal_width, read_readouts
from dirl.evaluate.readouts.summary import ReadoutScores, ReadoutsSummary
from dirl.features.baselines import Baseline
from dirl.store.dataset import TileStore
from dirl.store.subsample import subsample_tiles

Floats = NDArray[np.floating]


def readouts(
    encoder: str,
    store: Path,
    labels: str,
    out: Path,
    config: ReadoutsConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[ReadoutsSummary]:
    """Score several vectors of the same tokens: class token, mean, both, and means over regions.

    Each readout is centred and reduced to the same width by PCA without labels, since a wider vector would
    win by its width alone. All get the same folds, neighbours, linear probe and few labels as in
    `dirl.probe`. The colour histogram, reduced in the same way, is the baseline.

    Parameters
    ----------
    encoder
        A spec of `load_encoder`.
    store
        A tile store, with cells unless ``config.cells`` is None.
    labels
        A column of the store, or a CSV file; see `dirl.evaluate.common.labels.read_labels`.
    out
        Directory of the result: ``summary.json``, ``card.json``.
    config
        Number of tiles, name of the cells, width, folds, neighbours, resamples, seed.
    device
        ``auto``, or a torch device.
    overwrite
        Replace a result of other settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there are no such labels, or too few tiles or groups for the folds.
    EncoderError
        If the encoder cannot be loaded, or has not one token for each patch.
    StoreError
        If the store lacks tiles or cells, or `out` holds something else.
    """
    config = config or ReadoutsConfig()
    opened = TileStore.open(store)
    cells = None if config.cells is None else opened.cells(config.cells)
    given = read_labels(opened, labels)
    drawn = subsample_tiles(opened, config.tiles, config.seed, np.flatnonzero(given.classes != ""))
    loaded = load_encoder(encoder, device=choose_device(device))
    warn_resolution(loaded, opened.spec.size_px, opened.spec.mpp)
    tiles, colours, task = prepare_task(opened, given, drawn, config, quiet=quiet)
    inputs = {
        "store": opened.digest,
        "encoder": loaded.digest,
        "labels": tiles.given.digest,
        "split": task.split.digest,
    }
    if cells is not None:
        inputs["cells"] = cells.card.digest
    settings = config.model_dump(mode="json") | {"encoder": encoder, "labels": labels}
    card = new_card("readouts", settings, inputs)

    def compute(work: Work) -> ReadoutsSummary:
        with bar("Reading tokens", len(tiles.numbers), quiet=quiet) as advance:
            sets: dict[str, Floats] = dict(read_readouts(opened, cells, tiles.numbers, loaded, advance))
        width = config.width or min(values.shape[1] for values in sets.values())
        sets[Baseline.COLOUR_HISTOGRAM] = colours
        reduced = {name: equal_width(values, width) for name, values in sets.items()}
        with bar("Scoring readouts", 2 * len(task.split) * len(sets), quiet=quiet) as advance:
            scored = {name: _score(values, task, advance) for name, values in reduced.items()}
        results = {
            name: ReadoutScores(
                width=sets[name].shape[1],
                kept=reduced[name].shape[1],
                over_class=_over_class(name, scored),
                classifiers={how: each.record() for how, each in found.items()},
                few_shot=few_shot(
                    reduced[name], task.classes, task.split.folds, task.config.seed
                ).estimates(),
            )
            for name, found in scored.items()
        }
        return ReadoutsSummary(
            encoder=encoder,
            encoder_digest=loaded.digest,
            labels=labels,
            **task_facts(task),
            cells=config.cells,
            width=width,
            neighbours=list(config.neighbours),
            results=results,
            notes=[*given.notes, *caveats(task, given.unknown)],
        )

    return carry_out(card, out, ReadoutsSummary, compute, overwrite=overwrite)


def _score(values: Floats, task: TileTask, advance: Callable[..., None]) -> dict[str, Scored]:
    scores = by_neighbours(values, task, task.config.neighbours, advance)
    scores["linear"], _ = by_linear(values, task, advance)
    truth = task.classes[task.held_out]
    return {how: score_classes(truth, each, task.units) for how, each in scores.items()}


def _over_class(name: str, scored: dict[str, dict[str, Scored]]) -> dict[str, Estimate] | None:
    if name == CLASS or CLASS not in scored:
        return None
    return {how: each.minus(scored[CLASS][how]) for how, each in scored[name].items()}
