"""`dirl probe`: how well classes are told apart in features, beside baselines, on folds that do not leak."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.config import ProbeConfig
from dirl.core.checked import read_summary
from dirl.core.files import write_json
from dirl.core.owner import owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, finish, new_card
from dirl.evaluate.common.caveats import caveats, leakage
from dirl.evaluate.common.duplicates import Duplicates, across_folds
from dirl.evaluate.common.gate import judge
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.scores import METRICS, Scored, score
from dirl.evaluate.common.task import Task, describe, make_task
from dirl.evaluate.probe.cross_validate import RAW, better_form, by_linear, by_neighbours, knn_name
from dirl.evaluate.probe.fewshot import few_shot
from dirl.evaluate.probe.retrieval import describe as ranked_scores
from dirl.evaluate.probe.retrieval import retrieval
from dirl.features.external import read_foreign
from dirl.features.feature_files import Features, read_features
from dirl.features.knn import side_by_side
from dirl.store.index import write_table

Floats = NDArray[np.floating]

FEATURES, HISTOGRAM = "features", "colour_histogram"
JOINT = "features_and_colour_histogram"
SHOWN = 100
UNJUDGED: Mapping[str, Any] = {
    "joint": None,
    "leak": None,
    "duplicates": None,
    "gate": {
        "passed": None,
        "form": None,
        "statement": "The gate cannot be judged, since these features come without baselines: whether colour "
        "alone or an untrained encoder tells as much, and whether near-duplicates stand in different "
        "folds, is unknown. `dirl embed` the same tiles, with baselines, to see.",
    },
}
"""Of features without baselines."""


@dataclass(frozen=True)
class ProbeResult:
    """A finished probe.

    Attributes
    ----------
    path
        Its directory: ``summary.json``, ``predictions.parquet``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]


@owning
def probe(
    features: Path,
    labels: str,
    out: Path,
    config: ProbeConfig | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> ProbeResult:
    """Score features by neighbours, a linear probe, few labels and search, and all baselines in the same way.

    Neighbours are sought in the features as they are. Baselines are given their better form: raw or
    standardised, whichever scores higher.

    Parameters
    ----------
    features
        Directory that `dirl embed` made, or of another tool's HDF5 files, which have no baselines: see
        `read_foreign`. Without baselines neither leaks nor the gate are judged.
    labels
        A column of the features, or a CSV file; see `read_labels`.
    out
        Directory of the probe.
    config
        Folds, what is kept together, neighbours, resamples, seed.
    overwrite
        Replace a probe of other features, labels or settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there are no such labels, fewer than two classes, or too few tiles or groups for the folds.
    StoreError
        If there are no such features, they are damaged, or `out` holds something else.
    """
    config = config or ProbeConfig()
    ours = (features / "card.json").exists()
    held = read_features(features) if ours else read_foreign(features)
    given = read_labels(held, labels)
    labelled = given.classes != ""
    task = make_task(held, given, held.ready_made, held.baselines.get(HISTOGRAM), config)
    sets = {name: values[labelled] for name, values in {FEATURES: held.values, **held.baselines}.items()}

    inputs = {"features": held.card.digest, "labels": given.digest, "split": task.split.digest}
    card = claim(
        out,
        new_card("probe", config.model_dump(mode="json") | {"labels": labels}, inputs),
        overwrite=overwrite,
    )
    if card.finished:
        return ProbeResult(out, read_summary(out))

    found: dict[str, dict[str, Scored]] = {}
    results: dict[str, dict[str, Any]] = {}
    predictions: dict[str, NDArray[np.int64]] = {}
    steps = (3 * len(task.split) + 2) * len(sets) - (0 if held.baselines else len(task.split))
    with bar("Probing", steps, quiet=quiet) as advance:
        for name, values in tuple(sets.items()):
            form, scores = RAW, by_neighbours(values, task, config.neighbours, advance)
            if name != FEATURES:
                form, sets[name], scores = better_form(values, scores, task, advance)
            scores["linear"], costs = by_linear(values, task, advance)
            found[name] = {
                how: score(task.classes[task.held_out], each, task.units) for how, each in scores.items()
            }
            results[name] = {"form": form, **_describe(found[name], values.shape[1], costs)}
            results[name] |= _beyond(sets[name], task, advance)
            prefix = "" if name == FEATURES else f"{name}/"
            predictions |= {f"{prefix}{how}": each.argmax(axis=1) for how, each in scores.items()}
        beside = _beside_colour(held, labelled, sets, found, task, advance) if held.baselines else UNJUDGED

    ids = held.tile_ids[labelled]
    summary: dict[str, Any] = {
        "features": str(features),
        "encoder": held.card.config["encoder"],
        "encoder_digest": held.card.inputs["encoder"],
        "labels": labels,
        **describe(task),
        "unlabelled": int((~labelled).sum()),
        "unknown": given.unknown,
        "metrics": list(METRICS),
        "neighbours": list(config.neighbours),
        "results": results,
        **beside,
        "notes": [*given.notes, *_notes(task, given.unknown, beside)],
    }
    _write_predictions(out, ids, task, predictions)
    write_json(out / "summary.json", summary)
    finish(out, card, {"tiles": summary["tiles"], "classes": len(task.names)})
    return ProbeResult(out, read_summary(out))


def _beyond(values: Floats, task: Task, advance: Callable[..., None]) -> dict[str, Any]:
    """With few labels, and by search."""
    few = few_shot(values, task.classes, task.split.folds, task.config.seed).intervals()
    advance()
    ranked = retrieval(values, task.classes, task.split.folds, task.config.seed)
    advance()
    return {"few_shot": few, "retrieval": ranked_scores(ranked, task.units)}


def _beside_colour(
    held: Features,
    labelled: NDArray[np.bool_],
    sets: Mapping[str, Floats],
    found: Mapping[str, Mapping[str, Scored]],
    task: Task,
    advance: Callable[..., None],
) -> dict[str, Any]:
    """What the baselines tell: whether the split leaks, and whether the features pass the gate."""
    assert held.hashes is not None
    k = task.config.neighbours[0]
    both = side_by_side(sets[FEATURES], sets[HISTOGRAM])
    votes = by_neighbours(both, task, (k,), advance)[knn_name(k)]
    joint = score(task.classes[task.held_out], votes, task.units)
    leak = float(found[HISTOGRAM][knn_name(k)].values[0])
    duplicates = across_folds(held.hashes[labelled], held.baselines[HISTOGRAM][labelled], task.split.folds)
    nearest = {name: each[knn_name(k)] for name, each in found.items()}
    return {
        "joint": {"width": both.shape[1], knn_name(k): joint.intervals()},
        "leak": leakage(leak),
        "duplicates": _described(duplicates, held.tile_ids[labelled]),
        "gate": judge({**nearest, JOINT: joint}, k),
    }


def _describe(scored: Mapping[str, Scored], width: int, costs: list[float]) -> dict[str, Any]:
    described: dict[str, Any] = {how: each.intervals() for how, each in scored.items()}
    return {"width": width, **described, "costs": costs}


def _notes(task: Task, unknown: int, beside: Mapping[str, Any]) -> list[str]:
    notes, copies = caveats(task, unknown, beside["leak"]), beside["duplicates"]
    if copies and copies["pairs"]:
        notes.append(
            f"Near-duplicates stand in different folds: {copies['pairs']} pairs, listed under duplicates "
            "in summary.json. Keep them together, or leave them out."
        )
    return notes


def _described(duplicates: Duplicates, tile_ids: NDArray[np.str_]) -> dict[str, Any]:
    pairs = zip(duplicates.first[:SHOWN].tolist(), duplicates.second[:SHOWN].tolist(), strict=True)
    return {
        "pairs": len(duplicates),
        "first_pairs": [[str(tile_ids[one]), str(tile_ids[other])] for one, other in pairs],
    }


def _write_predictions(
    out: Path, tile_ids: NDArray[np.str_], task: Task, predictions: Mapping[str, NDArray[np.int64]]
) -> None:
    names, kept = np.array(task.names), task.held_out
    columns = {
        "tile_id": tile_ids[kept].tolist(),
        "label": names[task.classes[kept]].tolist(),
        "fold": task.split.folds[kept],
        "group": task.split.groups[kept],
        "unit": task.units.of_tile,
    }
    columns |= {how: names[guess].tolist() for how, guess in predictions.items()}
    write_table(out / "predictions.parquet", pa.table(columns))
