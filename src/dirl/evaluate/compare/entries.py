"""Entries of a comparison: predictions of probes, fine-tunings and slide models on the same split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from dirl.core.boundary import parsing, refuse_special
from dirl.core.card import read_card
from dirl.core.checked import checked, read_summary
from dirl.core.errors import ConfigError, StoreError
from dirl.core.intervals import UnitKind
from dirl.core.results import Record
from dirl.evaluate.common.records import Resampling, Scheme
from dirl.evaluate.compare.summary import ItemKind, SharedSplit
from dirl.features.baselines import TITLES, Baseline
from dirl.store.index import read_parquet

Strings = NDArray[np.str_]
Floats = NDArray[np.float64]

# What each command scores. Only results that score the same fit in one table.
STAGES: dict[str, ItemKind] = {"probe": "tiles", "finetune": "tiles", "mil": "slides"}
# The head of a fine-tuned encoder is linear, as is the probe of a frozen one.
LINEAR = "linear"
FINETUNED = {"finetuned": "fine-tuned", Baseline.UNTRAINED: "untrained, fine-tuned"}


class _Scored(Record):
    """What the summaries of all three commands say of the split and the units."""

    split: SharedSplit
    interval: Resampling


@dataclass(frozen=True)
class ComparedEntry:
    """One line of the comparison.

    Attributes
    ----------
    name
        Its name in tables and figures.
    baseline
        Whether it is a baseline, shown for comparison alone.
    predicted
        By measure, the class of each item as predicted, ``(t,)`` of str; of survival, its log risk.
    """

    name: str
    baseline: bool
    predicted: Mapping[str, Strings | Floats]


@dataclass(frozen=True)
class Survival:
    """Times and events of slides, and the fold that holds each out; all of shape (t,)."""

    times: Floats
    events: NDArray[np.bool_]
    folds: NDArray[np.int64]


@dataclass(frozen=True)
class Comparable:
    """Entries on the same items.

    Attributes
    ----------
    stage
        The command that made the first result.
    split
        Digest of the split that all were scored on.
    scheme
        What it keeps together.
    ids, truth : ndarray of shape (t,), str
        Tiles or slides that were held out, ascending, and their classes; of survival, times and events.
    survival
        The same as numbers; None of classes.
    units : ndarray of shape (t,), str
        Units that are resampled for intervals: the group of each item, or the item itself.
    over
        What the units are.
    entries
        Results in the given order, then the baselines.
    digests
        Of each result's card, by its directory.
    """

    stage: str
    split: str
    scheme: Scheme
    ids: Strings
    truth: Strings
    survival: Survival | None
    units: Strings
    over: UnitKind
    entries: tuple[ComparedEntry, ...]
    digests: dict[str, str]

    @property
    def kind(self) -> ItemKind:
        """What the results score."""
        return STAGES[self.stage]


def read_entries(results: Sequence[Path]) -> Comparable:
    """Read the predictions of directories that `dirl probe`, `dirl finetune` or `dirl mil` made.

    Raises
    ------
    ConfigError
        If there are fewer than two lines to compare, or some are of tiles and others of slides. If splits or
        labels differ, or two results have the same name.
    StoreError
        If one is unfinished, damaged, or of another command.
    """
    read = [_read(path) for path in results]
    first = read[0]
    for path, other in zip(results[1:], read[1:], strict=True):
        if other.kind != first.kind:
            raise ConfigError(
                f"a result of `dirl {other.stage}` beside one of `dirl {first.stage}`",
                where=path,
                remedy="compare tiles with tiles, slides with slides",
            )
        if other.split != first.split:
            raise ConfigError(
                f"scored on another split ({other.split[:12]}) than {results[0]} ({first.split[:12]})",
                where=path,
                remedy="score both on the same tiles, labels, folds and seed",
            )
        if not np.array_equal(other.ids, first.ids) or not np.array_equal(other.truth, first.truth):
            raise ConfigError(
                f"has other labels than {results[0]}", where=path, remedy="score both with the same labels"
            )
    entries = [entry for result in read for entry in result.entries if not entry.baseline]
    entries += _distinct([entry for result in read for entry in result.entries if entry.baseline])
    names = [entry.name for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"two results are called {twice}", where="RESULT", remedy="give their directories other names"
        )
    if len(entries) < 2:
        raise ConfigError("there is nothing to compare with", where=results[0], remedy="name two results")
    digests = {path: digest for result in read for path, digest in result.digests.items()}
    return replace(first, entries=tuple(entries), digests=digests)


def _read(path: Path) -> Comparable:
    card = read_card(path)
    if card.stage not in STAGES:
        remedy = "name directories of `dirl probe`, `dirl finetune` or `dirl mil`"
        raise StoreError(f"made by `dirl {card.stage}`", where=path, remedy=remedy)
    if card.finished is None:
        raise StoreError("unfinished", where=path, remedy=f"run the same `dirl {card.stage}` again")
    remedy = f"make it again with `dirl {card.stage}`"
    with parsing(path, remedy=remedy):
        scored = _Scored.model_validate(read_summary(path))
        columns, key, entries = READERS[card.stage](path)
        return Comparable(
            stage=card.stage,
            split=scored.split.digest,
            scheme=scored.split.scheme,
            ids=np.array(columns[key], np.str_),
            truth=np.array(columns["label"], np.str_),
            survival=_survival(columns) if "event" in columns else None,
            units=np.array(columns["unit"]).astype(np.str_),
            over=scored.interval.over,
            entries=entries,
            digests={str(path): card.digest},
        )


def _probe(path: Path) -> tuple[dict[str, list[Any]], str, tuple[ComparedEntry, ...]]:
    table = read_parquet(checked(path, "predictions.parquet"), "make it again with `dirl probe`")
    columns = table.sort_by("tile_id").to_pydict()
    found: dict[str, dict[str, Strings]] = {}
    for name, values in columns.items():
        if name not in ("tile_id", "label", "fold", "group", "unit"):
            baseline, slash, how = name.rpartition("/")
            found.setdefault(baseline if slash else "", {})[how] = np.array(values, np.str_)
    own = path.resolve().name
    entries = [ComparedEntry(own, False, found.pop(""))]
    for baseline, predicted in found.items():
        # The untrained twin depends on the architecture; colours are the same for all.
        title = f"{own}, {baseline}" if baseline == Baseline.UNTRAINED else TITLES[baseline]
        entries.append(ComparedEntry(title, True, predicted))
    return columns, "tile_id", tuple(entries)


def _finetune(path: Path) -> tuple[dict[str, list[Any]], str, tuple[ComparedEntry, ...]]:
    own, (columns, predicted) = path.resolve().name, _by_model(path, "tile_id")
    entries = [
        ComparedEntry(f"{own}, {title}", model == Baseline.UNTRAINED, {LINEAR: predicted[model]})
        for model, title in FINETUNED.items()
        if model in predicted
    ]
    return columns, "tile_id", tuple(entries)


def _mil(path: Path) -> tuple[dict[str, list[Any]], str, tuple[ComparedEntry, ...]]:
    own, (columns, predicted) = path.resolve().name, _by_model(path, "slide_id")
    entries = [ComparedEntry(f"{own}/{model}", False, {"slide": each}) for model, each in predicted.items()]
    return columns, "slide_id", tuple(entries)


def _by_model(path: Path, key: str) -> tuple[dict[str, list[Any]], dict[str, Strings | Floats]]:
    """Items, labels and groups, and by model what it predicts, by ascending id."""
    # Ids and classes may look like numbers, and are strings all the same.
    words = dict.fromkeys(("model", key, "label", "predicted", "group"), pa.string())
    options = pyarrow.csv.ConvertOptions(column_types=words, strings_can_be_null=False)
    refuse_special(path / "predictions.csv")
    table = pyarrow.csv.read_csv(checked(path, "predictions.csv"), convert_options=options)
    columns: dict[str, list[Any]] = {}
    predicted: dict[str, Strings | Floats] = {}
    for model in dict.fromkeys(table["model"].to_pylist()):
        rows = table.filter(pc.field("model") == model).sort_by(key)
        columns = rows.to_pydict()
        if "log_risk" in columns:
            predicted[model] = np.array(columns["log_risk"], np.float64)
            happened = zip(columns["time"], columns["event"], strict=True)
            columns["label"] = [f"{time:g} {event}" for time, event in happened]
        else:
            predicted[model] = np.array(columns["predicted"], np.str_)
    return columns, predicted


def _survival(columns: Mapping[str, Sequence[Any]]) -> Survival:
    return Survival(
        times=np.array(columns["time"], np.float64),
        events=np.array(columns["event"], np.bool_),
        folds=np.array(columns["fold"], np.int64),
    )


def _distinct(baselines: Sequence[ComparedEntry]) -> list[ComparedEntry]:
    """Each baseline once: colours are the same in every result, untrained twins those of one architecture."""
    kept: list[ComparedEntry] = []
    for baseline in baselines:
        if not any(_alike(baseline, other) for other in kept):
            kept.append(baseline)
    return kept


def _alike(one: ComparedEntry, other: ComparedEntry) -> bool:
    measures = one.predicted.keys()
    return measures == other.predicted.keys() and all(
        np.array_equal(one.predicted[how], other.predicted[how]) for how in measures
    )


READERS = {"probe": _probe, "finetune": _finetune, "mil": _mil}
