"""What is known of slides: a class, or when an event happened, from a CSV file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import MilConfig
from dirl.errors import ConfigError
from dirl.evaluate.labels import read_rows
from dirl.evaluate.splits import Sources
from dirl.mil.bags import Bags

Strings = NDArray[np.str_]

CENSORED, EVENT = "censored", "event"
EVENTS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
PATIENT = ("patient_id", "patient")
SHOWN = 3


@dataclass(frozen=True)
class SlideLabels:
    """The slides that are labelled and have features, in the order of the features.

    Attributes
    ----------
    bags : ndarray of shape (s,), int64
        Their numbers among the bags.
    names
        Of the classes; of survival ``censored`` and ``event``, as far as they occur.
    classes : ndarray of shape (s,), int64
    times : ndarray of shape (s,), float64, or None
        Until the event, or the last look; None where classes are asked for.
    folds : ndarray of shape (s,), str, or None
        As given.
    sources
        What is kept together.
    patients : ndarray of shape (s,), str
        Empty where unknown.
    unlabelled
        Slides with features of which the file says nothing.
    left_out
        Slides that were left out, by the reason.
    """

    bags: NDArray[np.int64]
    names: tuple[str, ...]
    classes: NDArray[np.int64]
    times: NDArray[np.float64] | None
    folds: Strings | None
    sources: Sources
    patients: Strings
    unlabelled: int
    left_out: Mapping[str, list[str]]

    @property
    def outputs(self) -> int:
        """Width of a model's output: the classes, or one risk."""
        return len(self.names) if self.times is None else 1


def read_slide_labels(path: Path, bags: Bags, config: MilConfig) -> SlideLabels:
    """Read labels of slides, and settle which of them are used.

    Parameters
    ----------
    path
        CSV file with ``slide_id`` and ``label``, or, for survival, ``time`` and ``event`` (1: it happened
        then, 0: it had not by then); if wanted ``fold``, ``group`` and ``patient_id``. A row without a label,
        or without a time or an event, labels nothing.
    bags
        The slides of which there are features.
    config
        ``survival``, ``groups`` and ``leave_out``.

    Raises
    ------
    ConfigError
        If the file or a column is missing, a slide is named twice, a value makes no sense, there are fewer
        than two classes or no event, or a group or fold is missing; and, unless they are left out, if labels
        name slides without features, or slides have no tiles or features that are not finite.
    """
    if not path.is_file():
        raise ConfigError("no such file", where=f"--labels {path}", remedy="name a CSV file")
    rows, columns = read_rows(path)
    _check_columns(columns, path, config)
    wanted = ("time", "event") if config.survival else ("label",)
    by_slide: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, start=1):
        clean = {name: (row.get(name) or "").strip() for name in columns}
        slide = clean["slide_id"]
        if not slide:
            raise ConfigError(f"row {line} has no slide_id", where=path, remedy="name it, or remove the row")
        if slide in by_slide:
            raise ConfigError(f"two rows name the slide {slide}", where=path, remedy="keep one of them")
        by_slide[slide] = clean
    labelled = {slide: row for slide, row in by_slide.items() if all(row[name] for name in wanted)}
    used, left_out = _usable(labelled, bags, path, leave_out=config.leave_out)
    found = [labelled[slide] for slide in bags.slide_ids[used].tolist()]

    def column(name: str) -> Strings:
        return np.array([row.get(name, "") for row in found], np.str_)

    times = None
    if config.survival:
        times, happened = _survival(found, path)
        kinds = np.where(happened, EVENT, CENSORED)
    else:
        kinds = column("label")
    names, classes = np.unique(kinds, return_inverse=True)
    if times is None and len(names) < 2:
        only = f"all {len(found)} labelled slides are of the class {names[0]}" if len(names) else "no labels"
        raise ConfigError(only, where=path, remedy="name labels of at least two classes")
    if times is not None and EVENT not in names:
        raise ConfigError("no event happened", where=path, remedy="survival needs slides of both kinds")
    patient = next((name for name in PATIENT if name in columns), None)
    patients = bags.patient_ids[used]
    if patient:
        stated = column(patient)
        patients = np.where(stated == "", patients, stated)
    folds = column("fold") if "fold" in columns else None
    if folds is not None:
        _check_full(folds, "fold", path)
    return SlideLabels(
        bags=used,
        names=tuple(names.tolist()),
        classes=classes.astype(np.int64),
        times=times,
        folds=folds,
        sources=_sources(config.groups, columns, column, bags.slide_ids[used], patients, path),
        patients=patients,
        unlabelled=len(bags) - len(set(labelled) & set(bags.slide_ids.tolist())),
        left_out=left_out,
    )


def _check_columns(columns: Sequence[str], path: Path, config: MilConfig) -> None:
    wanted = ("slide_id", "time", "event") if config.survival else ("slide_id", "label")
    if missing := [name for name in wanted if name not in columns]:
        remedy = "name its columns slide_id, label and, if wanted, fold, group and patient_id"
        if config.survival:
            remedy = "survival needs slide_id, time and event (1 or 0)"
        elif missing == ["label"] and {"time", "event"} <= set(columns):
            remedy = "for survival pass --survival"
        there = ", ".join(columns) or "none"
        reason = f"lacks the column {', '.join(missing)} (there are: {there})"
        raise ConfigError(reason, where=path, remedy=remedy)


def _usable(
    labelled: Mapping[str, object], bags: Bags, path: Path, *, leave_out: bool
) -> tuple[NDArray[np.int64], dict[str, list[str]]]:
    """Numbers of the labelled bags that can be used, and the slides that cannot, by the reason."""
    ids = bags.slide_ids.tolist()
    known = np.array([slide in labelled for slide in ids])
    empty, broken = known & (bags.sizes == 0), known & ~bags.finite
    problems = {
        "without features": sorted(set(labelled) - set(ids)),
        "without tiles": bags.slide_ids[empty].tolist(),
        "with features that are not finite": bags.slide_ids[broken].tolist(),
    }
    problems = {reason: slides for reason, slides in problems.items() if slides}
    if problems and not leave_out:
        told = "; ".join(
            f"{len(slides)} {reason}: {', '.join(slides[:SHOWN])}{', …' * (len(slides) > SHOWN)}"
            for reason, slides in problems.items()
        )
        raise ConfigError(
            f"of {len(labelled)} labelled slides, {told}",
            where=path,
            remedy=f"correct it (features are such as {ids[0]}), or leave them out with --leave-out",
        )
    used = np.flatnonzero(known & ~empty & ~broken)
    if not len(used):
        raise ConfigError(
            "no labelled slide has features", where=path, remedy=f"features are of such as {ids[0]}"
        )
    return used, problems


def _survival(rows: Sequence[Mapping[str, str]], path: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    times, happened = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        try:
            times[i] = float(row["time"])
            happened[i] = EVENTS[row["event"].removesuffix(".0").lower()]
            if not isfinite(times[i]) or times[i] < 0:
                raise ValueError
        except (ValueError, KeyError):
            raise ConfigError(
                f"slide {row['slide_id']} has the time {row['time']!r} and the event {row['event']!r}",
                where=path,
                remedy="a time is a number from 0 on, an event 1 or 0",
            ) from None
    return times, happened


def _sources(
    wanted: str,
    columns: Sequence[str],
    column: Callable[[str], Strings],
    slides: Strings,
    patients: Strings,
    path: Path,
) -> Sources:
    known = patients != ""
    if wanted == "auto" and "group" in columns:
        wanted = "group"
    if wanted == "auto":
        ids = np.where(known, np.char.add("patient ", patients), np.char.add("slide ", slides))
        return Sources("patients" if known.any() else "slides", ids)
    if wanted == "patient":
        _check_full(patients, "patient", path)
        return Sources("patients", patients)
    if wanted not in columns:
        raise ConfigError(
            f"no such column in {path.name}",
            where=f"--groups {wanted}",
            remedy=f"name auto, patient or one of: {', '.join(columns)}",
        )
    _check_full(column(wanted), wanted, path)
    return Sources("groups", column(wanted))


def _check_full(values: Strings, name: str, path: Path) -> None:
    if missing := int((values == "").sum()):
        raise ConfigError(
            f"{missing} labelled slides have no {name}",
            where=path,
            remedy="name one for each, or leave their labels empty",
        )
