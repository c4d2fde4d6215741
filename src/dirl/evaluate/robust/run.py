"""`dirl robust`: scores and features under damage, under rotation, and between hospitals."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import RobustConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.files import replacing, write_text
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.loading import LoadedEncoder, load_encoder, warn_resolution
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.task import LabelledTiles, TileTask, caveats, prepare_task, task_facts
from dirl.evaluate.robust.centres import across_centres
from dirl.evaluate.robust.conditions import CLEAN, Condition, conditions, damage_levels
from dirl.evaluate.robust.damaged import embed_damaged
from dirl.evaluate.robust.figures import draw_curves
from dirl.evaluate.robust.score import Floats, relative, score_conditions
from dirl.evaluate.robust.summary import Accuracies, ConditionScores, RobustScores, RobustSummary
from dirl.features.baselines import FEATURES, Baseline
from dirl.store.dataset import TileStore
from dirl.store.subsample import subsample_tiles

MEASURES = ("knn", "knn_change", "linear", "linear_change", "drift", "drift_share")


def robust(
    encoder: str,
    store: Path,
    labels: str,
    out: Path,
    config: RobustConfig | None = None,
    *,
    baselines: bool = True,
    device: str = "auto",
    batch: int = 64,
    workers: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[RobustSummary]:
    """Measure what damage does to an encoder's features, beside its untrained twin and colour alone.

    After an interruption, the same call continues after the last finished condition.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it.
    store
        Tile store.
    labels
        A column of the store, or a CSV file; see `dirl.evaluate.common.labels.read_labels`.
    out
        Directory of the result: ``summary.json``, ``robustness.csv``, ``figures``, ``card.json``.
    config
        Damage and its severities, tiles to draw, folds, neighbours, resamples, seed.
    baselines
        Measure the untrained twin and colour, too.
    device, batch, workers
        A torch device or ``auto``, tiles in a forward pass, processes that read and damage tiles.
    overwrite
        Replace a measurement of another encoder, store or settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there are no such labels, or too few tiles or groups for the folds.
    EncoderError
        If the encoder cannot be loaded, or gives features that are not finite.
    StoreError
        If there is no such store, or `out` holds something else.
    """
    config = config or RobustConfig()
    tile_store = TileStore.open(store)
    tile_labels = read_labels(tile_store, labels, centres=True)
    drawn = subsample_tiles(tile_store, config.tiles, config.seed, np.flatnonzero(tile_labels.classes != ""))
    loaded = load_encoder(encoder, device=choose_device(device))
    warn_resolution(loaded, tile_store.spec.size_px, tile_store.spec.mpp)
    tiles, colours, task = prepare_task(tile_store, tile_labels, drawn, config, quiet=quiet)
    inputs = {
        "store": tile_store.digest,
        "encoder": loaded.digest,
        "labels": tiles.given.digest,
        "split": task.split.digest,
    }
    settings = config.model_dump(mode="json") | {"encoder": encoder, "labels": labels}
    if not baselines:
        settings["baselines"] = False
    card = new_card("robust", settings, inputs)
    asked = conditions(config)

    def compute(work: Work) -> RobustSummary:
        encoders: dict[str, LoadedEncoder] = {FEATURES: loaded}
        if baselines:
            encoders[Baseline.UNTRAINED] = loaded.randomised(config.seed)
        embedded = embed_damaged(
            encoders,
            tile_store,
            tiles.numbers,
            asked,
            work.parts,
            colours=baselines,
            seed=config.seed,
            batch=batch,
            workers=workers,
            quiet=quiet,
        )
        names = (*encoders, *([Baseline.COLOUR_HISTOGRAM] if baselines else []))
        with bar("Scoring", None, quiet=quiet) as advance:
            results = {
                name: _score({c: embedded[c][name] for c in asked}, tiles, colours, task, config, advance)
                for name in names
            }
        summary = RobustSummary(
            encoder=encoder,
            encoder_digest=loaded.digest,
            labels=labels,
            **task_facts(task),
            neighbours=config.neighbours[0],
            damage=list(config.damage),
            severities=list(config.severities),
            results=results,
            notes=[
                *tile_labels.notes,
                *caveats(task, tile_labels.unknown),
                *([] if tiles.have_centres else [_without_centres(tiles.centres)]),
            ],
        )
        _write_csv(work.out / "robustness.csv", results, asked)
        for name, data in draw_curves(summary).items():
            with replacing(work.out / "figures" / name) as temporary:
                temporary.write_bytes(data)
        return summary

    return carry_out(card, out, RobustSummary, compute, overwrite=overwrite)


def _score(
    sets: Mapping[Condition, Floats],
    tiles: LabelledTiles,
    colours: Floats,
    task: TileTask,
    config: RobustConfig,
    advance: Callable[..., None],
) -> RobustScores:
    """Score one set of features under every condition, and between centres if all are known."""
    scored = score_conditions(sets, task, advance)
    scores = RobustScores(conditions=scored, relative=_relative(scored, config))
    if not tiles.have_centres:
        return scores
    centres = across_centres(sets[Condition(CLEAN)], tiles, colours, config, advance)
    return scores.model_copy(update={"centres": centres})


def _relative(scored: Mapping[str, ConditionScores], config: RobustConfig) -> dict[str, Accuracies]:
    """Share of the score that is kept: by damage, over all severities or angles, and over all corruptions."""
    kept: dict[str, Accuracies] = {
        kind: relative(scored, kind, damage_levels(kind, config.severities)) for kind in config.damage
    }
    if config.corruptions:
        each = [kept[kind] for kind in config.corruptions]
        kept["corruptions"] = Accuracies(
            knn=float(np.mean([one.knn for one in each])), linear=float(np.mean([one.linear for one in each]))
        )
    return kept


def _write_csv(path: Path, results: Mapping[str, RobustScores], asked: Sequence[Condition]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["features", "condition", "level", "measure", "value", "low", "high"])
    for name, each in results.items():
        for condition in asked:
            for measure in MEASURES:
                estimate = astuple(getattr(each.at(condition), measure))
                writer.writerow([name, condition.kind, condition.level, measure, *estimate])
    write_text(path, table.getvalue())


def _without_centres(centres: NDArray[np.str_]) -> str:
    missing = int((centres == "").sum())
    which = "No tile has a centre" if missing == len(centres) else f"{missing} tiles have no centre"
    return f"{which}, so centres are not compared."
