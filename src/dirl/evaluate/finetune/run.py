"""`dirl finetune`: an encoder trained end to end on the folds of a probe, beside baselines."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import FinetuneConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.errors import EncoderError
from dirl.core.files import read_json_with_digest, write_json_with_digest
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.loading import LoadedEncoder, embed_images, load_encoder, warn_resolution
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.predictions import class_columns, write_predictions
from dirl.evaluate.common.records import Chosen, Leak
from dirl.evaluate.common.scores import METRICS, score_classes
from dirl.evaluate.common.task import LabelledTiles, TileTask, caveats, leakage, prepare_task, task_facts
from dirl.evaluate.finetune.summary import (
    FINETUNED,
    FROZEN,
    UNTRAINED,
    FinetuneScores,
    FinetuneSummary,
    FrozenScores,
    TunedScores,
)
from dirl.evaluate.finetune.train import Material, read_tiles, score_fold
from dirl.evaluate.probe.cross_validate import better_form, by_linear, by_neighbours, knn_name
from dirl.store.dataset import TileStore
from dirl.store.subsample import subsample_tiles

Floats = NDArray[np.float64]


def finetune(
    encoder: str,
    store: Path,
    labels: str,
    out: Path,
    config: FinetuneConfig | None = None,
    *,
    device: str = "auto",
    workers: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[FinetuneSummary]:
    """Fine-tune an encoder without each fold in turn, and its untrained twin in the same way.

    Folds are those of `dirl probe` on features of the same tiles, labels and seed. After an interruption, the
    same call continues after the last finished fold.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it.
    store
        Tile store.
    labels
        A column of the store, or a CSV file; see `read_labels`.
    out
        Directory of the result: ``summary.json``, ``predictions.csv``, ``card.json``.
    config
        Tiles, folds, what is kept together, training, resamples, seed.
    device
        ``auto``, or a torch device.
    workers
        Processes that read tiles.
    overwrite
        Replace a result of another encoder, store, labels or settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there are no such labels, fewer than two classes, or too few tiles or groups for the folds.
    EncoderError
        If the encoder cannot be loaded, or gives numbers that are not finite.
    StoreError
        If there is no such store, or `out` holds something else.
    TrainingError
        If training does not stay finite.
    """
    config = config or FinetuneConfig()
    tile_store = TileStore.open(store)
    tile_labels = read_labels(tile_store, labels)
    drawn = subsample_tiles(tile_store, config.tiles, config.seed)
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
    card = new_card("finetune", settings, inputs)

    def compute(work: Work) -> FinetuneSummary:
        # Random weights are their own control.
        twins = {FINETUNED: loaded} | ({} if loaded.random else {UNTRAINED: loaded.randomised(config.seed)})
        frozen = _frozen(loaded, tile_store, tiles, config, workers, quiet)
        scores: dict[str, Floats] = {}
        chosen: dict[str, list[Chosen]] = {}
        steps = len(twins) * len(task.split) * (len(config.learning_rates) + 1) * config.epochs
        with bar("Fine-tuning", steps, quiet=quiet) as advance:
            for name, twin in twins.items():
                material = Material(twin, frozen.shape[1], tile_store, tiles.numbers, task, config, workers)
                scores[name], chosen[name] = _cross_validate(work.parts, name, material, advance)
        with bar("Frozen, and colour", 3 * len(task.split), quiet=quiet) as advance:
            scores[FROZEN], costs = by_linear(frozen, task, advance)
            leak = _leakage(colours, task, advance)
        _write_predictions(work.out, tiles, task, scores)
        notes = caveats(task, tile_labels.unknown, leak) + _notes(loaded, chosen, config.epochs)
        return FinetuneSummary(
            encoder=encoder,
            encoder_digest=loaded.digest,
            labels=labels,
            **task_facts(task),
            unlabelled=len(drawn) - len(tiles.numbers),
            unknown=tile_labels.unknown,
            metrics=list(METRICS),
            results=_scores(task, scores, chosen, costs),
            leak=leak,
            notes=[*tile_labels.notes, *notes],
        )

    return carry_out(card, out, FinetuneSummary, compute, overwrite=overwrite)


def _write_predictions(out: Path, tiles: LabelledTiles, task: TileTask, scores: Mapping[str, Floats]) -> None:
    """Write what each model predicts for the tiles that are held out."""
    kept = task.held_out
    items = {
        "tile_id": tiles.tile_ids[kept].tolist(),
        "fold": task.split.folds[kept],
        "group": task.split.groups[kept],
        "unit": task.units.of_tile,
        "label": np.array(task.names)[task.classes[kept]].tolist(),
    }
    write_predictions(out, items, {name: class_columns(task.names, each) for name, each in scores.items()})


def _scores(
    task: TileTask, scores: Mapping[str, Floats], chosen: Mapping[str, list[Chosen]], costs: list[float]
) -> FinetuneScores:
    truth = task.classes[task.held_out]
    found = {name: score_classes(truth, each, task.units) for name, each in scores.items()}
    tuned = {}
    for name, each in chosen.items():
        over = {"over_frozen": found[name].minus(found[FROZEN])}
        if name == FINETUNED and UNTRAINED in chosen:
            over["over_untrained"] = found[name].minus(found[UNTRAINED])
        tuned[name] = TunedScores(**found[name].estimates(), chosen=each, **over)
    frozen = FrozenScores(**found[FROZEN].estimates(), costs=costs)
    return FinetuneScores(**tuned, frozen=frozen)


def _frozen(
    encoder: LoadedEncoder,
    store: TileStore,
    tiles: LabelledTiles,
    config: FinetuneConfig,
    workers: int,
    quiet: bool,
) -> NDArray[np.float32]:
    """Features (t, d) by the encoder as it is."""
    found = []
    with bar("Embedding tiles", len(tiles.numbers), quiet=quiet) as advance:
        for images, _, _ in read_tiles(store, tiles.numbers, config.batch, workers):
            found.append(embed_images(encoder, images).cpu().numpy())
            advance(len(images))
    values = np.concatenate(found)
    if not np.isfinite(values).all():
        raise EncoderError(
            "gives features that are not finite", where=encoder.spec, remedy="its weights are damaged"
        )
    return values


def _cross_validate(
    parts: Path, name: str, material: Material, advance: Callable[..., None]
) -> tuple[Floats, list[Chosen]]:
    """Scores of the held-out tiles and what was chosen, computed or read from an interrupted run's parts."""
    task, config = material.task, material.config
    scores, chosen = np.zeros((len(task.classes), len(task.names))), []
    for fold in range(len(task.split)):
        part = parts / f"{name}-{fold}.json"
        done = read_json_with_digest(part)
        if done is not None:
            advance((len(config.learning_rates) + 1) * config.epochs)
        else:
            found, best = score_fold(material, fold, advance)
            done = {"scores": found.tolist(), "chosen": best.to_json()}
            write_json_with_digest(part, done)
        scores[task.split.folds == fold] = done["scores"]
        chosen.append(Chosen(**done["chosen"]))
    return scores[task.held_out], chosen


def _leakage(colours: NDArray[np.float32], task: TileTask, advance: Callable[..., None]) -> Leak:
    """How well colour alone tells the classes by its neighbours, in its better form, as in the probe."""
    raw = by_neighbours(colours, task, task.config.neighbours, advance)
    votes = better_form(colours, raw, task, advance)[2][knn_name(task.config.neighbours[0])]
    return leakage(float(score_classes(task.classes[task.held_out], votes, task.units).values[0]))


def _notes(encoder: LoadedEncoder, chosen: Mapping[str, list[Chosen]], most: int) -> list[str]:
    notes = []
    epochs = [each.epochs for twin in chosen.values() for each in twin]
    if most > 1 and (last := epochs.count(most)):
        notes.append(
            f"In {last} of {len(epochs)} trainings the last epoch was the best: more --epochs may score "
            "higher."
        )
    if encoder.random:
        notes.append("The encoder's weights are random: it is its own untrained control.")
    return notes
