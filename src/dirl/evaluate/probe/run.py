"""`dirl probe`: how well features tell classes apart, beside baselines, on folds that do not leak."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.config import ProbeConfig
from dirl.core.card import Card, new_card
from dirl.core.files import write_text
from dirl.core.layout import CARD
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.evaluate.common.labels import Labels, read_labels
from dirl.evaluate.common.records import Leak
from dirl.evaluate.common.scores import METRICS, Scored, score_classes
from dirl.evaluate.common.task import TileTask, caveats, leakage, make_task, task_facts
from dirl.evaluate.probe.cross_validate import RAW, better_form, by_linear, by_neighbours, knn_name
from dirl.evaluate.probe.duplicates import across_folds
from dirl.evaluate.probe.evaluators import Evaluator, by_evaluator, load_evaluators
from dirl.evaluate.probe.fewshot import few_shot
from dirl.evaluate.probe.gate import JOINT, UNJUDGED, labelled_gate
from dirl.evaluate.probe.page import render_page
from dirl.evaluate.probe.retrieval import retrieval, retrieval_estimates
from dirl.evaluate.probe.summary import DuplicatePairs, Gate, JointScores, ProbeScores, ProbeSummary
from dirl.features.baselines import FEATURES, Baseline
from dirl.features.external import read_external
from dirl.features.feature_files import Features, read_features
from dirl.features.knn import join_features
from dirl.report.confusion import confusion_rows
from dirl.store.index import write_parquet

Floats = NDArray[np.floating]

LISTED = 100  # pairs of near-duplicates in the summary


def probe(
    features: Path,
    labels: str,
    out: Path,
    config: ProbeConfig | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[ProbeSummary]:
    """Score features by neighbours, a linear probe, few labels and retrieval, and all baselines alike.

    Neighbours are sought in the features as they are. Baselines get their better form: raw or standardised,
    whichever scores higher.

    Parameters
    ----------
    features
        Directory that `dirl embed` made, or of another tool's HDF5 files, which have no baselines: see
        `read_external`. Without baselines neither leaks nor the gate are judged.
    labels
        A column of the features, or a CSV file; see `read_labels`.
    out
        Directory of the probe: ``report.html``, ``summary.json``, ``predictions.parquet``,
        ``card.json``.
    config
        Folds, what is kept together, neighbours, resamples, evaluators of your own, seed.
    overwrite
        Replace a probe of other features, labels or settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there are no such labels or evaluators, fewer than two classes, or too few tiles or groups for the
        folds.
    StoreError
        If there are no such features, they are damaged, or `out` holds something else.
    """
    config = config or ProbeConfig()
    evaluators = load_evaluators(config.evaluators)
    by_dirl = (features / CARD).exists()
    embedded = read_features(features) if by_dirl else read_external(features)
    tile_labels = read_labels(embedded, labels)
    task = make_task(
        embedded, tile_labels, embedded.ready_made, embedded.baselines.get(Baseline.COLOUR_HISTOGRAM), config
    )
    inputs = {"features": embedded.card.digest, "labels": tile_labels.digest, "split": task.split.digest}
    settings = config.model_dump(mode="json") | {"labels": labels}
    if not evaluators:  # so that probes of earlier versions are not made again
        del settings["evaluators"]
    card = new_card("probe", settings, inputs)

    def compute(work: Work) -> ProbeSummary:
        return _probe(work.out, work.card, embedded, features, tile_labels, labels, task, evaluators, quiet)

    return carry_out(card, out, ProbeSummary, compute, overwrite=overwrite)


@dataclass
class _Scores:
    """Features and baselines with their scores, by name, as they are measured."""

    sets: dict[str, Floats]
    scored: dict[str, dict[str, Scored]] = field(default_factory=dict)
    results: dict[str, ProbeScores] = field(default_factory=dict)
    predictions: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def _probe(
    out: Path,
    card: Card,
    embedded: Features,
    features: Path,
    tile_labels: Labels,
    labels: str,
    task: TileTask,
    evaluators: Mapping[str, Evaluator],
    quiet: bool,
) -> ProbeSummary:
    labelled = tile_labels.classes != ""
    measured = _Scores(
        {name: values[labelled] for name, values in {FEATURES: embedded.values, **embedded.baselines}.items()}
    )
    steps = ((3 + len(evaluators)) * len(task.split) + 2) * len(measured.sets)
    steps -= 0 if embedded.baselines else len(task.split)
    with bar("Probing", steps, quiet=quiet) as advance:
        for name in tuple(measured.sets):
            _measure(measured, name, task, evaluators, advance)
        joint, leak, duplicates, gate = (
            _beside_colour(embedded, labelled, measured, task, advance)
            if embedded.baselines
            else (None, None, None, UNJUDGED)
        )
    _write_predictions(out, embedded.tile_ids[labelled], task, measured.predictions)
    summary = ProbeSummary(
        features=str(features),
        encoder=embedded.card.config["encoder"],
        encoder_digest=embedded.card.inputs["encoder"],
        labels=labels,
        **task_facts(task),
        unlabelled=int((~labelled).sum()),
        unknown=tile_labels.unknown,
        metrics=list(METRICS),
        neighbours=list(task.config.neighbours),
        results=measured.results,
        joint=joint,
        leak=leak,
        duplicates=duplicates,
        gate=gate,
        notes=[*tile_labels.notes, *caveats(task, tile_labels.unknown, leak), *_notes(duplicates)],
    )
    classes = confusion_rows(task.classes[task.held_out], measured.predictions["linear"], task.names)
    write_text(out / "report.html", render_page(summary, card, classes))
    return summary


def _measure(
    measured: _Scores,
    name: str,
    task: TileTask,
    evaluators: Mapping[str, Evaluator],
    advance: Callable[..., None],
) -> None:
    """Score one set of features. A baseline is kept in its better form."""
    values = measured.sets[name]
    form, scores = RAW, by_neighbours(values, task, task.config.neighbours, advance)
    if name != FEATURES:
        form, measured.sets[name], scores = better_form(values, scores, task, advance)
    scores["linear"], costs = by_linear(values, task, advance)
    for own, evaluator in evaluators.items():
        scores[own] = by_evaluator(own, evaluator, values, task, advance)
    truth = task.classes[task.held_out]
    scored = {how: score_classes(truth, each, task.units) for how, each in scores.items()}
    best, folds, seed = measured.sets[name], task.split.folds, task.config.seed
    few = few_shot(best, task.classes, folds, seed).estimates()
    advance()
    ranked = retrieval(best, task.classes, folds, seed)
    advance()
    measured.scored[name] = scored
    measured.results[name] = ProbeScores(
        form=form,
        width=values.shape[1],
        classifiers={how: each.record() for how, each in scored.items()},
        costs=costs,
        few_shot=few,
        retrieval=retrieval_estimates(ranked, task.units),
    )
    prefix = "" if name == FEATURES else f"{name}/"
    measured.predictions |= {f"{prefix}{how}": each.argmax(axis=1) for how, each in scores.items()}


def _beside_colour(
    embedded: Features,
    labelled: NDArray[np.bool_],
    measured: _Scores,
    task: TileTask,
    advance: Callable[..., None],
) -> tuple[JointScores, Leak, DuplicatePairs, Gate]:
    """Return what only baselines tell: whether the split leaks, and whether the features pass the gate."""
    assert embedded.hashes is not None
    k = task.config.neighbours[0]
    both = join_features(measured.sets[FEATURES], measured.sets[Baseline.COLOUR_HISTOGRAM])
    votes = by_neighbours(both, task, (k,), advance)[knn_name(k)]
    joint = score_classes(task.classes[task.held_out], votes, task.units)
    nearest = {name: each[knn_name(k)] for name, each in measured.scored.items()}
    colours = embedded.baselines[Baseline.COLOUR_HISTOGRAM][labelled]
    pairs = across_folds(embedded.hashes[labelled], colours, task.split.folds)
    listed = embedded.tile_ids[labelled][pairs[:LISTED]].tolist()
    return (
        JointScores(width=both.shape[1], classifiers={knn_name(k): joint.record()}),
        leakage(float(nearest[Baseline.COLOUR_HISTOGRAM].values[0])),
        DuplicatePairs(pairs=len(pairs), first_pairs=[(one, other) for one, other in listed]),
        labelled_gate({**nearest, JOINT: joint}, k),
    )


def _notes(duplicates: DuplicatePairs | None) -> list[str]:
    if duplicates is None or not duplicates.pairs:
        return []
    return [
        f"Near-duplicates are in different folds: {duplicates.pairs} pairs, listed under duplicates in "
        "summary.json. Keep them together, or leave them out."
    ]


def _write_predictions(
    out: Path, tile_ids: NDArray[np.str_], task: TileTask, predictions: Mapping[str, NDArray[np.int64]]
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
    write_parquet(out / "predictions.parquet", pa.table(columns))
