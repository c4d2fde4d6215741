"""`dirl mil`: classes or survival of slides from the features of their tiles, on folds that do not leak."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from dirl.config import MilConfig
from dirl.core.checked import read_summary
from dirl.core.device import choose_device
from dirl.core.errors import ConfigError
from dirl.core.files import remove, replacing, write_json
from dirl.core.intervals import Units, choose_units
from dirl.core.owner import owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, digest, finish, new_card
from dirl.core.sealed import read_sealed, write_sealed
from dirl.evaluate.common.scores import METRICS, score
from dirl.evaluate.mil.bags import FEATURES, Bags, read_bags
from dirl.evaluate.mil.cox import concordance
from dirl.evaluate.mil.labels import EVENT, SlideLabels, read_slide_labels
from dirl.evaluate.mil.models import CLASSES_ONLY, MODELS
from dirl.evaluate.mil.nested import Folds, HeldOut, cross_validate, make_folds
from dirl.evaluate.mil.train import Task
from dirl.store.index import write_table

Interval = dict[str, float | None]

ATTENTION_DIR, PARTS_DIR = "attention", "unfinished"
BASELINE = "mean"


@dataclass(frozen=True)
class MilResult:
    """Finished slide models.

    Attributes
    ----------
    path
        Their directory: ``summary.json``, ``predictions.csv``, ``attention/MODEL.parquet``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]


class Judged(Protocol):
    """Scores of one model on the held-out slides, `Scored` or `Concordance`."""

    def intervals(self) -> dict[str, Interval]:
        """Each metric with its interval."""

    def minus(self, other: Any, /) -> Interval:
        """Difference to another model's, paired."""


@owning
def mil(
    features: Path,
    labels: Path,
    out: Path,
    config: MilConfig | None = None,
    *,
    device: str = "cpu",
    overwrite: bool = False,
    quiet: bool = False,
) -> MilResult:
    """Train slide models on features and on their baselines, and score each slide by one that never saw it.

    Interrupted, the same call goes on after the last model that was done.

    Parameters
    ----------
    features
        As `read_bags` takes them.
    labels
        As `read_slide_labels` takes them.
    out
        Directory of the result.
    config
        Folds, what is kept together, models, and what is chosen among.
    device
        ``auto``, or a torch device.
    overwrite
        Replace a result of other features, labels or settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If the labels make no sense, do not fit the features, or are too few for the folds, or a model does
        not do survival.
    StoreError
        If there are no such features, they are damaged, or `out` holds something else.
    """
    config = config or MilConfig()
    names = _models(config)
    bags = read_bags(features, quiet=quiet)
    given = read_slide_labels(labels, bags, config)
    slide_ids = bags.slide_ids[given.bags]
    folds = make_folds(given, slide_ids, config)
    listed = [slide_ids, given.classes, given.times, folds.outer.groups]
    inputs = {
        "features": bags.digest,
        "labels": digest([given.names, *(None if each is None else each.tolist() for each in listed)]),
        "split": folds.outer.digest,
    }
    settings = config.model_dump(mode="json") | {"labels": str(labels), "models": names}
    card = claim(out, new_card("mil", settings, inputs), overwrite=overwrite)
    if card.finished:
        return MilResult(out, read_summary(out))

    held = folds.outer.folds >= 0
    units = _units(given, held, config)
    found: dict[str, dict[str, Judged]] = {}
    results: dict[str, dict[str, Any]] = {}
    predictions: dict[str, NDArray[np.float64]] = {}
    with bar("Slide models", len(bags.sets) * len(names) * len(folds.outer), quiet=quiet) as advance:
        for kind in bags.sets:
            task = Task.of(bags, given, kind, choose_device(device))
            found[kind], results[kind] = {}, {}
            for name in names:
                scores, chosen = _one(out, task, name, folds, config, advance)
                found[kind][name] = _score(given, scores, folds, held, units)
                results[kind][name] = found[kind][name].intervals() | {"chosen": chosen}
                if BASELINE in names and name != BASELINE:
                    over = found[kind][name].minus(found[kind][BASELINE])
                    results[kind][name]["over_mean"] = over
                if kind == FEATURES:
                    predictions[name] = scores
    summary = {
        "features": str(features),
        "encoder": bags.encoder,
        "labels": str(labels),
        "task": "survival" if config.survival else "classification",
        "classes": dict(zip(given.names, np.bincount(given.classes).tolist(), strict=True)),
        "slides": int(held.sum()),
        "tiles": int(bags.sizes[given.bags].sum()),
        "unlabelled": given.unlabelled,
        "left_out": given.left_out,
        "split": {
            "scheme": folds.outer.scheme,
            "folds": len(folds.outer),
            "inner_folds": [int(inner.max()) + 1 for inner in folds.inner],
            "groups": len(np.unique(folds.outer.groups)),
            "digest": folds.outer.digest,
        },
        "interval": {"level": 0.95, "resamples": config.bootstrap, "over": units.kind, "units": len(units)},
        "metrics": ["concordance"] if config.survival else list(METRICS),
        "chance": 0.5 if config.survival else 1 / len(given.names),
        "results": results,
        "notes": _notes(bags, given, units, config),
    }
    _write_predictions(out, slide_ids, given, folds, held, units, predictions)
    write_json(out / "summary.json", summary)
    finish(out, card, {"slides": summary["slides"], "tiles": summary["tiles"], "models": len(names)})
    remove(out / PARTS_DIR)
    return MilResult(out, read_summary(out))


def _models(config: MilConfig) -> list[str]:
    # In one order, whatever theirs: what the others are compared with, `BASELINE`, comes first.
    names = [name for name in MODELS if name in (config.models or MODELS)]
    if not config.survival:
        return names
    if config.models and (unfit := [name for name in names if name in CLASSES_ONLY]):
        raise ConfigError(
            f"what {unfit[0]} adds to abmil needs classes, which survival has not",
            where=f"--model {unfit[0]}",
            remedy="use abmil",
        )
    return [name for name in names if name not in CLASSES_ONLY]


def _units(given: SlideLabels, held: NDArray[np.bool_], config: MilConfig) -> Units:
    units = choose_units(given.sources.ids[held], int(held.sum()), config.bootstrap, config.seed)
    return replace(units, kind="slides" if units.kind == "tiles" else given.sources.kind)


def _one(
    out: Path, task: Task, name: str, folds: Folds, config: MilConfig, advance: Callable[..., None]
) -> tuple[NDArray[np.float64], list[dict[str, float]]]:
    """Scores of the held-out slides and what was chosen, computed or as an interrupted run left them."""
    part = out / PARTS_DIR / f"{task.features}-{name}.json"
    done = read_sealed(part)
    if done is not None:
        advance(len(folds.outer))
        return np.array(done["scores"]), done["chosen"]
    result = cross_validate(task, name, folds, config, advance)
    if task.features == FEATURES:
        write_table(out / ATTENTION_DIR / f"{name}.parquet", _attention(task, result))
    scores, chosen = result.scores[folds.outer.folds >= 0], list(result.chosen)
    write_sealed(part, {"scores": scores.tolist(), "chosen": chosen})
    return scores, chosen


def _attention(task: Task, result: HeldOut) -> pa.Table:
    """Weights of the held-out slides' tiles, 1 being an even share, as `dirl map --between` reads them."""
    parts = []
    for number, shares in zip(task.labels.bags.tolist(), result.attention, strict=True):
        if shares is not None:
            slide = [str(task.bags.slide_ids[number])] * len(shares)
            places = task.bags.places(number)
            parts.append(pa.table({"slide_id": slide, **places, "weight": shares * len(shares)}))
    shared = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    return pa.concat_tables([part.select(shared) for part in parts])


def _score(
    given: SlideLabels,
    scores: NDArray[np.float64],
    folds: Folds,
    held: NDArray[np.bool_],
    units: Units,
) -> Judged:
    if given.times is None:
        return score(given.classes[held], scores, units)
    happened = np.array(given.names)[given.classes[held]] == EVENT
    return concordance(scores[:, 0], given.times[held], happened, folds.outer.folds[held], units)


def _notes(bags: Bags, given: SlideLabels, units: Units, config: MilConfig) -> list[str]:
    notes = list(given.notes)
    if len(bags.sets) == 1:
        notes.append("No baselines: these features came without them; `dirl embed` computes them.")
    if given.sources.kind == "slides":
        notes.append("Patients are unknown: slides of one patient may stand on both sides.")
    if units.kind == "slides" and given.sources.kind != "slides":
        notes.append(
            f"The {given.sources.kind} are too few to resample: intervals are over slides, and so too narrow."
        )
    if config.survival and config.models is None:
        notes.append("clam is left out: what it adds to abmil needs classes.")
    if (given.patients == "").any() and given.sources.kind == "patients":
        notes.append(
            f"Of {(given.patients == '').sum()} slides the patient is unknown: each counts as a patient."
        )
    notes += [f"Left out: {len(slides)} slides {reason}." for reason, slides in given.left_out.items()]
    return notes


def _write_predictions(
    out: Path,
    slide_ids: NDArray[np.str_],
    given: SlideLabels,
    folds: Folds,
    held: NDArray[np.bool_],
    units: Units,
    predictions: Mapping[str, NDArray[np.float64]],
) -> None:
    """One row for each model and held-out slide."""
    names, tables = np.array(given.names), []
    for model, scores in predictions.items():
        columns: dict[str, Any] = {
            "model": [model] * len(scores),
            "slide_id": slide_ids[held].tolist(),
            "group": given.sources.ids[held].tolist(),
            "unit": units.of_tile,
            "fold": folds.outer.folds[held],
        }
        if given.times is None:
            columns |= {
                "label": names[given.classes[held]].tolist(),
                "predicted": names[scores.argmax(axis=1)].tolist(),
            }
            columns |= {f"p_{name}": scores[:, c] for c, name in enumerate(given.names)}
        else:
            columns |= {
                "time": given.times[held],
                "event": (names[given.classes[held]] == EVENT).astype(np.int64),
                "log_risk": scores[:, 0],
            }
        tables.append(pa.table(columns))
    with replacing(out / "predictions.csv") as temporary:
        pyarrow.csv.write_csv(pa.concat_tables(tables), temporary)
