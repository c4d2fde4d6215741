"""`dirl mil`: classes or survival of slides from the features of their tiles, on folds that do not leak."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.config import MilConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.core.files import read_json_with_digest, write_json_with_digest, write_text
from dirl.core.intervals import Units, choose_units
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.evaluate.common.predictions import class_columns, write_predictions
from dirl.evaluate.common.records import Chosen, Resampling
from dirl.evaluate.common.scores import METRICS, SURVIVAL_METRICS, Scored, concordance, score_classes
from dirl.evaluate.mil.bags import Bags, read_bags
from dirl.evaluate.mil.labels import EVENT, SlideLabels, read_slide_labels
from dirl.evaluate.mil.models import CLASSES_ONLY, MODELS
from dirl.evaluate.mil.nested import Folds, HeldOut, cross_validate, make_folds
from dirl.evaluate.mil.page import HeldOutSlides, render_page
from dirl.evaluate.mil.summary import MilSummary, SlideScores, SlideSplit
from dirl.evaluate.mil.train import SlideTask
from dirl.features.baselines import FEATURES
from dirl.store.index import write_parquet

# Scores of the held-out slides by one model, and what was chosen in each fold.
Made = tuple[NDArray[np.float64], list[Chosen]]

ATTENTION_DIR = "attention"
MEAN = "mean"  # mean pooling, with which the others are compared


def mil(
    features: Path,
    labels: str | Path,
    out: Path,
    config: MilConfig | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[MilSummary]:
    """Train slide models on features and baselines, and score each slide by a model that never saw it.

    After an interruption, the same call continues after the last finished model.

    Parameters
    ----------
    features
        As `read_bags` takes them.
    labels
        As `read_slide_labels` takes them.
    out
        Directory of the result: ``summary.json``, ``predictions.csv``, ``attention/MODEL.parquet``,
        ``card.json``.
    config
        Folds, what is kept together, models, and the rates and epochs to choose from.
    device
        ``auto``, or a torch device.
    overwrite
        Replace a result of other features, labels or settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If the labels are wrong, do not fit the features, or are too few for the folds, or a model cannot
        learn survival.
    StoreError
        If there are no such features, they are damaged, or `out` holds something else.
    """
    config = config or MilConfig()
    names = _models(config)
    bags = read_bags(features, quiet=quiet)
    labelled = read_slide_labels(labels, bags, config)
    slide_ids = bags.slide_ids[labelled.bags]
    folds = make_folds(labelled, slide_ids, config)
    listed = [slide_ids, labelled.classes, labelled.times, folds.outer.groups]
    inputs = {
        "features": bags.digest,
        "labels": digest([labelled.names, *(None if each is None else each.tolist() for each in listed)]),
        "split": folds.outer.digest,
    }
    settings = config.model_dump(mode="json") | {"labels": str(labels), "models": names}
    units = _units(labelled, folds.held_out, config)

    def compute(work: Work) -> MilSummary:
        results: dict[str, dict[str, SlideScores]] = {}
        predictions: dict[str, NDArray[np.float64]] = {}
        with bar("Slide models", len(bags.sets) * len(names) * len(folds.outer), quiet=quiet) as advance:
            for kind in bags.sets:
                task = SlideTask.of(bags, labelled, kind, choose_device(device))
                made = {name: _one(work, task, name, folds, config, advance) for name in names}
                scores = {name: each for name, (each, _) in made.items()}
                results[kind] = _records(labelled, folds, units, made)
                predictions |= scores if kind == FEATURES else {}
        _write_predictions(work.out, bags, labelled, folds.outer.folds, units, predictions)
        summary = MilSummary(
            features=str(features),
            encoder=bags.encoder,
            labels=str(labels),
            task="survival" if config.survival else "classification",
            classes=dict(zip(labelled.names, np.bincount(labelled.classes).tolist(), strict=True)),
            slides=int(folds.held_out.sum()),
            tiles=int(bags.sizes[labelled.bags].sum()),
            unlabelled=labelled.unlabelled,
            left_out=dict(labelled.left_out),
            split=_split(folds),
            interval=Resampling.of(units),
            metrics=list(SURVIVAL_METRICS if config.survival else METRICS),
            chance=0.5 if config.survival else 1 / len(labelled.names),
            results=results,
            notes=_notes(bags, labelled, units, config),
        )
        slides = HeldOutSlides(labelled, folds.outer.folds, units, predictions)
        write_text(work.out / "report.html", render_page(summary, work.card, slides))
        return summary

    return carry_out(new_card("mil", settings, inputs), out, MilSummary, compute, overwrite=overwrite)


def _write_predictions(
    out: Path,
    bags: Bags,
    labelled: SlideLabels,
    folds: NDArray[np.int64],
    units: Units,
    predictions: Mapping[str, NDArray[np.float64]],
) -> None:
    """Write what each model predicts, (slides, classes) or (slides, 1), for the slides that are held out."""
    held_out = folds >= 0
    items = {
        "slide_id": bags.slide_ids[labelled.bags][held_out].tolist(),
        "group": labelled.sources.ids[held_out].tolist(),
        "unit": units.of_tile,
        "fold": folds[held_out],
    }
    truth = np.array(labelled.names)[labelled.classes[held_out]]
    if labelled.times is None:
        items["label"] = truth.tolist()
        models = {name: class_columns(labelled.names, each) for name, each in predictions.items()}
    else:
        items |= {"time": labelled.times[held_out], "event": (truth == EVENT).astype(np.int64)}
        models = {name: {"log_risk": each[:, 0]} for name, each in predictions.items()}
    write_predictions(out, items, models)


def _split(folds: Folds) -> SlideSplit:
    return SlideSplit(
        scheme=folds.outer.scheme,
        folds=len(folds.outer),
        inner_folds=[int(inner.max()) + 1 for inner in folds.inner],
        groups=len(np.unique(folds.outer.groups)),
        digest=folds.outer.digest,
    )


def _records(
    labelled: SlideLabels, folds: Folds, units: Units, made: Mapping[str, Made]
) -> dict[str, SlideScores]:
    """Scores by model, each with its difference to mean pooling."""
    scored = {name: _score(labelled, scores, folds, units) for name, (scores, _) in made.items()}
    records = {}
    for name, each in scored.items():
        over = {"over_mean": each.minus(scored[MEAN])} if MEAN in scored and name != MEAN else {}
        records[name] = SlideScores(metrics=each.estimates(), chosen=made[name][1], **over)
    return records


def _models(config: MilConfig) -> list[str]:
    # Always in the same order: mean pooling, with which the others are compared, comes first.
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


def _units(labelled: SlideLabels, held_out: NDArray[np.bool_], config: MilConfig) -> Units:
    units = choose_units(labelled.sources.ids[held_out], int(held_out.sum()), config.bootstrap, config.seed)
    return replace(units, kind="slides" if units.kind == "tiles" else labelled.sources.kind)


def _one(
    work: Work, task: SlideTask, name: str, folds: Folds, config: MilConfig, advance: Callable[..., None]
) -> Made:
    """Scores of the held-out slides and what was chosen, computed or read from an interrupted run's parts."""
    part = work.parts / f"{task.features}-{name}.json"
    done = read_json_with_digest(part)
    if done is not None:
        advance(len(folds.outer))
        return np.array(done["scores"]), [Chosen(**each) for each in done["chosen"]]
    result = cross_validate(task, name, folds, config, advance)
    if task.features == FEATURES:
        write_parquet(work.out / ATTENTION_DIR / f"{name}.parquet", _attention(task, result))
    scores, chosen = result.scores[folds.held_out], list(result.chosen)
    write_json_with_digest(part, {"scores": scores.tolist(), "chosen": [each.to_json() for each in chosen]})
    return scores, chosen


def _attention(task: SlideTask, result: HeldOut) -> pa.Table:
    """Weights of the held-out slides' tiles, 1 being an even share, as `dirl map --between` reads them."""
    parts = []
    for number, shares in zip(task.labels.bags.tolist(), result.attention, strict=True):
        if shares is not None:
            slide = [str(task.bags.slide_ids[number])] * len(shares)
            places = task.bags.places(number)
            parts.append(pa.table({"slide_id": slide, **places, "weight": shares * len(shares)}))
    shared = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    return pa.concat_tables([part.select(shared) for part in parts])


def _score(labelled: SlideLabels, scores: NDArray[np.float64], folds: Folds, units: Units) -> Scored:
    held_out = folds.held_out
    if labelled.times is None:
        return score_classes(labelled.classes[held_out], scores, units)
    happened = np.array(labelled.names)[labelled.classes[held_out]] == EVENT
    return concordance(scores[:, 0], labelled.times[held_out], happened, folds.outer.folds[held_out], units)


def _notes(bags: Bags, labelled: SlideLabels, units: Units, config: MilConfig) -> list[str]:
    notes = list(labelled.notes)
    if len(bags.sets) == 1:
        notes.append("No baselines: these features came without them; `dirl embed` computes them.")
    if labelled.sources.kind == "slides":
        notes.append("Patients are unknown: slides of one patient may be on both sides.")
    if units.kind == "slides" and labelled.sources.kind != "slides":
        notes.append(
            f"The {labelled.sources.kind} are too few to resample: "
            "intervals are over slides, and so too narrow."
        )
    if config.survival and config.models is None:
        notes.append("clam is left out: what it adds to abmil needs classes.")
    if (labelled.patients == "").any() and labelled.sources.kind == "patients":
        notes.append(
            f"Of {(labelled.patients == '').sum()} slides the patient is unknown: each counts as a patient."
        )
    notes += [f"Left out: {len(slides)} slides {reason}." for reason, slides in labelled.left_out.items()]
    return notes
