"""`dirl finetune`: an encoder trained end to end on the folds of a probe, beside baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from dirl.config import FinetuneConfig
from dirl.core.checked import read_summary
from dirl.core.device import choose_device
from dirl.core.errors import EncoderError
from dirl.core.files import remove, replacing, write_json
from dirl.core.owner import owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, finish, new_card
from dirl.core.sealed import read_sealed, write_sealed
from dirl.encoders.loading import LoadedEncoder, embed, load_encoder
from dirl.evaluate.common.caveats import caveats, leakage
from dirl.evaluate.common.labelled_tiles import DrawnTiles, pose
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.common.scores import METRICS, score
from dirl.evaluate.common.task import Task, describe
from dirl.evaluate.finetune.train import Material, held_out, reader
from dirl.evaluate.probe.cross_validate import better_form, by_linear, by_neighbours, knn_name
from dirl.features.subsample import subsample_tiles
from dirl.store.dataset import TileStore

Floats = NDArray[np.float64]

FINETUNED, UNTRAINED, FROZEN = "finetuned", "untrained", "frozen"
PARTS_DIR = "unfinished"


@dataclass(frozen=True)
class FinetuneResult:
    """A finished fine-tuning.

    Attributes
    ----------
    path
        Its directory: ``summary.json``, ``predictions.csv``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]


@owning
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
) -> FinetuneResult:
    """Fine-tune an encoder without each fold in turn, and its untrained twin in the same way.

    Folds are those of `dirl probe` on features of the same tiles, labels and seed. Interrupted, the same
    call goes on after the last fold that was done.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it.
    store
        Tile store.
    labels
        A column of the store, or a CSV file; see `read_labels`.
    out
        Directory of the result.
    config
        Tiles, folds, what is kept together, how it is learnt, resamples, seed.
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
    held = TileStore.open(store)
    given = read_labels(held, labels)
    drawn = subsample_tiles(held, config.tiles, config.seed)
    loaded = load_encoder(encoder, device=choose_device(device))
    tiles, colours, task = pose(held, given, drawn, config, quiet=quiet)
    inputs = {
        "store": held.digest,
        "encoder": loaded.digest,
        "labels": tiles.given.digest,
        "split": task.split.digest,
    }
    settings = config.model_dump(mode="json") | {"encoder": encoder, "labels": labels}
    card = claim(out, new_card("finetune", settings, inputs), overwrite=overwrite)
    if card.finished:
        return FinetuneResult(out, read_summary(out))

    # Random weights are their own control.
    twins = {FINETUNED: loaded} | ({} if loaded.random else {UNTRAINED: loaded.randomised(config.seed)})
    frozen = _frozen(loaded, held, tiles, config, workers, quiet)
    scores: dict[str, Floats] = {}
    chosen: dict[str, list[dict[str, float]]] = {}
    steps = len(twins) * len(task.split) * (len(config.learning_rates) + 1) * config.epochs
    with bar("Fine-tuning", steps, quiet=quiet) as advance:
        for name, twin in twins.items():
            material = Material(twin, frozen.shape[1], held, tiles.numbers, task, config, workers)
            scores[name], chosen[name] = _cross_validate(out / PARTS_DIR, name, material, advance)
    with bar("Frozen, and colour", 3 * len(task.split), quiet=quiet) as advance:
        scores[FROZEN], costs = by_linear(frozen, task, advance)
        leak = _leakage(colours, task, advance)
    truth = task.classes[task.held_out]
    found = {name: score(truth, each, task.units) for name, each in scores.items()}
    results: dict[str, dict[str, Any]] = {name: dict(each.intervals()) for name, each in found.items()}
    for name, each in chosen.items():
        results[name]["chosen"] = each
        results[name]["over_frozen"] = found[name].minus(found[FROZEN])
    if UNTRAINED in found:
        results[FINETUNED]["over_untrained"] = found[FINETUNED].minus(found[UNTRAINED])
    results[FROZEN]["costs"] = costs
    summary: dict[str, Any] = {
        "encoder": encoder,
        "encoder_digest": loaded.digest,
        "labels": labels,
        **describe(task),
        "unlabelled": len(drawn) - len(tiles.numbers),
        "unknown": given.unknown,
        "metrics": list(METRICS),
        "results": results,
        "leak": leak,
        "notes": [*given.notes, *_notes(task, leak, loaded, given.unknown, chosen, config.epochs)],
    }
    _write_predictions(out, tiles, task, scores)
    write_json(out / "summary.json", summary)
    finish(out, card, {"tiles": summary["tiles"], "classes": len(task.names)})
    remove(out / PARTS_DIR)
    return FinetuneResult(out, read_summary(out))


def _frozen(
    encoder: LoadedEncoder,
    store: TileStore,
    tiles: DrawnTiles,
    config: FinetuneConfig,
    workers: int,
    quiet: bool,
) -> NDArray[np.float32]:
    """Features (t, d) by the encoder as it is."""
    found = []
    with bar("Embedding tiles", len(tiles.numbers), quiet=quiet) as advance:
        for images, _, _ in reader(store, tiles.numbers, config.batch, workers):
            found.append(embed(encoder, images).cpu().numpy())
            advance(len(images))
    values = np.concatenate(found)
    if not np.isfinite(values).all():
        raise EncoderError(
            "gives features that are not finite", where=encoder.spec, remedy="its weights are damaged"
        )
    return values


def _cross_validate(
    parts: Path, name: str, material: Material, advance: Callable[..., None]
) -> tuple[Floats, list[dict[str, float]]]:
    """Scores of the held-out tiles and what was chosen, computed or as an interrupted run left them."""
    task, config = material.task, material.config
    scores, chosen = np.zeros((len(task.classes), len(task.names))), []
    for fold in range(len(task.split)):
        part = parts / f"{name}-{fold}.json"
        done = read_sealed(part)
        if done is not None:
            advance((len(config.learning_rates) + 1) * config.epochs)
        else:
            given, rate, epochs = held_out(material, fold, advance)
            done = {"scores": given.tolist(), "chosen": {"learning_rate": rate, "epochs": epochs}}
            write_sealed(part, done)
        scores[task.split.folds == fold] = done["scores"]
        chosen.append(done["chosen"])
    return scores[task.held_out], chosen


def _leakage(colours: NDArray[np.float32], task: Task, advance: Callable[..., None]) -> dict[str, Any]:
    """What colour alone tells by its neighbours, in its better form, as the probe asks it."""
    raw = by_neighbours(colours, task, task.config.neighbours, advance)
    votes = better_form(colours, raw, task, advance)[2][knn_name(task.config.neighbours[0])]
    return leakage(float(score(task.classes[task.held_out], votes, task.units).values[0]))


def _notes(
    task: Task,
    leak: dict[str, Any],
    encoder: LoadedEncoder,
    unknown: int,
    chosen: Mapping[str, list[dict[str, float]]],
    most: int,
) -> list[str]:
    notes = caveats(task, unknown, leak)
    epochs = [each["epochs"] for twin in chosen.values() for each in twin]
    if last := epochs.count(most):
        notes.append(
            f"In {last} of {len(epochs)} trainings the last epoch was the best: more --epochs may score "
            "higher."
        )
    if encoder.random:
        notes.append("The encoder's weights are random: it is its own untrained control.")
    return notes


def _write_predictions(out: Path, tiles: DrawnTiles, task: Task, scores: Mapping[str, Floats]) -> None:
    """One row for each model and held-out tile."""
    names, kept, tables = np.array(task.names), task.held_out, []
    for model, each in scores.items():
        columns: dict[str, Any] = {
            "model": [model] * len(each),
            "tile_id": tiles.tile_ids[kept].tolist(),
            "fold": task.split.folds[kept],
            "group": task.split.groups[kept],
            "unit": task.units.of_tile,
            "label": names[task.classes[kept]].tolist(),
            "predicted": names[each.argmax(axis=1)].tolist(),
        }
        columns |= {f"p_{name}": each[:, c] for c, name in enumerate(task.names)}
        tables.append(pa.table(columns))
    with replacing(out / "predictions.csv") as temporary:
        pyarrow.csv.write_csv(pa.concat_tables(tables), temporary)
