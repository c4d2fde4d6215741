"""`dirl robust`: scores and features under damage, turning, and between hospitals."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dirl.config import RobustConfig
from dirl.core.checked import read_summary
from dirl.core.device import choose_device
from dirl.core.files import remove, replacing, write_json
from dirl.core.owner import owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, finish, new_card
from dirl.encoders.loading import load_encoder
from dirl.evaluate.common.caveats import caveats
from dirl.evaluate.common.labelled_tiles import pose
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.task import describe
from dirl.evaluate.robust.centres import across_centres
from dirl.evaluate.robust.conditions import CLEAN, Condition, conditions, levels
from dirl.evaluate.robust.damaged import HISTOGRAM, embed_damaged
from dirl.evaluate.robust.figures import draw
from dirl.evaluate.robust.score import relative, score_conditions
from dirl.features.subsample import subsample_tiles
from dirl.store.dataset import TileStore

FEATURES, UNTRAINED = "features", "untrained"
PARTS_DIR = "unfinished"
MEASURES = ("knn", "knn_change", "linear", "linear_change", "drift", "drift_share")


@dataclass(frozen=True)
class RobustResult:
    """A finished measurement.

    Attributes
    ----------
    path
        Its directory: ``summary.json``, ``robustness.csv``, ``figures``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]


@owning
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
) -> RobustResult:
    """Measure what damage does to an encoder's features, beside its untrained twin's and colour alone.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it.
    store
        Tile store.
    labels
        A column of the store, or a CSV file; see `dirl.evaluate.common.labels.read_labels`.
    out
        Directory; conditions that it holds already are not embedded again.
    config
        Damage and its severities, tiles to draw, folds, neighbours, resamples, seed.
    baselines
        Beside the encoder, the same of its untrained twin and of colour.
    device, batch, workers
        Where it runs, tiles in a forward pass, processes that read and damage tiles.
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
    held = TileStore.open(store)
    given = read_labels(held, labels, centres=True)
    drawn = subsample_tiles(held, config.tiles, config.seed, np.flatnonzero(given.classes != ""))
    loaded = load_encoder(encoder, device=choose_device(device))
    tiles, colours, task = pose(held, given, drawn, config, quiet=quiet)
    inputs = {
        "store": held.digest,
        "encoder": loaded.digest,
        "labels": tiles.given.digest,
        "split": task.split.digest,
    }
    settings = config.model_dump(mode="json") | {"encoder": encoder, "labels": labels}
    if not baselines:
        settings["baselines"] = False
    card = claim(out, new_card("robust", settings, inputs), overwrite=overwrite)
    if card.finished:
        return RobustResult(out, read_summary(out))

    asked = conditions(config)
    encoders = {FEATURES: loaded} | ({UNTRAINED: loaded.randomised(config.seed)} if baselines else {})
    embedded = embed_damaged(
        encoders,
        held,
        tiles.numbers,
        asked,
        out / PARTS_DIR,
        colours=baselines,
        seed=config.seed,
        batch=batch,
        workers=workers,
        quiet=quiet,
    )
    results: dict[str, Any] = {}
    known_centres = bool((tiles.centres != "").all())
    with bar("Scoring", None, quiet=quiet) as advance:
        for name in (*encoders, *([HISTOGRAM] if baselines else [])):
            sets = {condition: embedded[condition][name] for condition in asked}
            scored = score_conditions(sets, task, advance)
            results[name] = {"conditions": scored, "relative": _relative(scored, config)}
            if known_centres:
                clean = sets[Condition(CLEAN)]
                results[name]["centres"] = across_centres(clean, tiles, colours, config, advance)

    summary: dict[str, Any] = {
        "encoder": encoder,
        "encoder_digest": loaded.digest,
        "labels": labels,
        **describe(task),
        "neighbours": config.neighbours[0],
        "damage": list(config.damage),
        "severities": list(config.severities),
        "results": results,
        "notes": [
            *given.notes,
            *caveats(task, given.unknown),
            *([] if known_centres else ["Some tiles have no centre: none is compared."]),
        ],
    }
    _write_csv(out / "robustness.csv", results, asked)
    for name, data in draw(summary).items():
        with replacing(out / "figures" / name) as temporary:
            temporary.write_bytes(data)
    write_json(out / "summary.json", summary)
    finish(out, card, {"tiles": len(tiles.numbers), "conditions": len(asked)})
    remove(out / PARTS_DIR)
    return RobustResult(out, read_summary(out))


def _relative(scored: Mapping[str, Mapping[str, Any]], config: RobustConfig) -> dict[str, dict[str, float]]:
    """Score kept, by corruption over all severities and over all angles, and its mean over corruptions."""
    kept: dict[str, dict[str, float]] = {
        kind: {how: relative(scored, kind, levels(kind, config.severities), how) for how in ("knn", "linear")}
        for kind in config.damage
    }
    if config.corruptions:
        kept["corruptions"] = {
            how: float(np.mean([kept[kind][how] for kind in config.corruptions])) for how in ("knn", "linear")
        }
    return kept


def _write_csv(path: Path, results: Mapping[str, Any], asked: Sequence[Condition]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["features", "condition", "level", "measure", "value", "low", "high"])
    for name, each in results.items():
        for condition in asked:
            measured = each["conditions"][str(condition)]
            for measure in MEASURES:
                values = (measured[measure][key] for key in ("value", "low", "high"))
                writer.writerow([name, condition.kind, condition.level, measure, *values])
    with replacing(path) as temporary:
        temporary.write_text(table.getvalue(), encoding="utf-8")
