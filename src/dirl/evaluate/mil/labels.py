"""Labels of slides from a CSV file: a class, or the time of an event."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import MilConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.splits import Sources, check_full, patients_or_slides
from dirl.evaluate.mil.bags import Bags
from dirl.tables.label_column import LABEL, split_source
from dirl.tables.match import describe_column, describe_table, match_slides
from dirl.tables.read import PATIENT, Table, check_classes, missing_words, parse_number, read_csv

Strings = NDArray[np.str_]

CENSORED, EVENT = "censored", "event"
EVENTS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
LISTED = 3  # slides of one problem in a message


@dataclass(frozen=True)
class SlideLabels:
    """The slides that are labelled and have features, in the order of the features.

    Attributes
    ----------
    bags : ndarray of shape (s,), int64
        Numbers of the slides among the bags.
    names
        Names of the classes; for survival those of ``censored`` and ``event`` that occur.
    classes : ndarray of shape (s,), int64
    times : ndarray of shape (s,), float64, or None
        Until the event, or the last follow-up; None for classes.
    folds : ndarray of shape (s,), str, or None
        As given.
    sources
        What is kept together.
    patients : ndarray of shape (s,), str
        Empty where unknown.
    unlabelled
        Number of slides with features that the file does not name.
    left_out
        Slides that were left out, by the reason.
    notes
        The columns that were used, and what was left out.
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
    notes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Width of a model's output: the classes, or one risk."""
        return len(self.names) if self.times is None else 1


def read_slide_labels(source: str | Path, bags: Bags, config: MilConfig) -> SlideLabels:
    """Read labels of slides, and choose the slides to use.

    The CSV file has ``slide_id`` and ``label``. For survival it has ``time`` and ``event`` (1: it happened
    then, 0: it had not happened by then). ``fold``, ``group`` and ``patient_id`` are optional. Labels from
    another column are ``CSV,label=COLUMN``. Slides and patients may have any of the usual names (see
    `dirl.tables.read`). A row without a label, or without a time or an event, is left out and counted.

    Raises
    ------
    ConfigError
        If the file or a column is missing, rows of a slide do not agree, or a value is invalid. If there are
        fewer than two classes or no event, or classes differ only in case or blanks. If a group or fold is
        missing. Unless ``leave_out``, also if labels name slides without features or tiles, or with features
        that are not finite.
    """
    path, label = split_source(source)
    table = read_csv(path, path if path.exists() else f"--labels {path}")
    wanted = ("time", "event") if config.survival else (label,)
    used = _optional_columns(table, config.groups)
    columns = {name: table.find((name,)) for name in wanted}
    read = [name for name in columns.values() if name is not None]
    matched = match_slides(table, bags.slide_ids.tolist(), [*used.values(), *read], path)
    if matched is None or len(read) < len(wanted):
        lacking = [*([] if matched else ["slide_id"]), *(name for name in wanted if columns[name] is None)]
        raise _lacks(table, lacking, config)
    labelled = {slide: row for slide, row in matched.rows.items() if all(row[name] for name in read)}
    if not labelled:
        reason = f"no row has a {' and '.join(read)}"
        raise ConfigError(reason, where=path, remedy=f"fill it in; missing are {missing_words()}")
    used_bags, left_out = _usable(labelled, bags, path, leave_out=config.leave_out)
    found = [labelled[slide] for slide in bags.slide_ids[used_bags].tolist()]

    def column(name: str) -> Strings:
        return np.array([row[name] for row in found], np.str_)

    times = None
    if config.survival:
        times, happened = _survival(found, bags.slide_ids[used_bags], read, path)
        kinds = np.where(happened, EVENT, CENSORED)
    else:
        kinds = column(read[0])
        check_classes(kinds.tolist(), path)
    names, classes = np.unique(kinds, return_inverse=True)
    _check_enough(names.tolist(), len(found), path, survival=config.survival)
    patients = bags.patient_ids[used_bags]
    if "patients" in used:
        own = column(used["patients"])
        patients = np.where(own == "", patients, own)
    folds = column(used["folds"]) if "folds" in used else None
    if folds is not None:
        check_full(folds, "labelled slides have no fold", path)
    taken = [
        describe_column("slides", matched.column, bags.slide_ids[used_bags].tolist()),
        *(describe_column(what, name, column(name).tolist()) for what, name in used.items()),
        *(f"{LABEL if name == label else name}s from column {columns[name]}" for name in wanted),
    ]
    return SlideLabels(
        bags=used_bags,
        names=tuple(names.tolist()),
        classes=classes.astype(np.int64),
        times=times,
        folds=folds,
        sources=_sources(config.groups, used, column, bags.slide_ids[used_bags], patients, path),
        patients=patients,
        unlabelled=len(bags) - len(set(labelled) & set(bags.slide_ids.tolist())),
        left_out=left_out,
        notes=tuple(describe_table(table, matched, taken, used, read)),
    )


def _optional_columns(table: Table, groups: str) -> dict[str, str]:
    """Columns of patients, folds and groups, as far as the table has them and they are asked for."""
    columns = {
        "patients": table.find_filled(PATIENT),
        "folds": table.find(("fold",)),
        "groups": table.find(("group",)),
    }
    if groups not in ("auto", "patient"):
        columns["groups"] = _asked(table, groups)
    elif groups == "patient":
        del columns["groups"]
    return {what: column for what, column in columns.items() if column is not None}


def _check_enough(names: Sequence[str], slides: int, path: Path, *, survival: bool) -> None:
    if not survival and len(names) < 2:
        only = f"all {slides} labelled slides are of the class {names[0]}" if names else "no labels"
        raise ConfigError(only, where=path, remedy="name labels of at least two classes")
    if survival and EVENT not in names:
        raise ConfigError("no event happened", where=path, remedy="survival needs slides with the event")


def _asked(table: Table, name: str) -> str:
    column = table.find((name,))
    if column is None:
        raise ConfigError(
            f"no such column in {table.path.name}",
            where=f"--groups {name}",
            remedy=f"name auto, patient or one of: {', '.join(table.columns)}",
        )
    return column


def _lacks(table: Table, missing: Sequence[str], config: MilConfig) -> ConfigError:
    remedy = "name its columns slide_id, label and, if wanted, fold, group and patient_id"
    if config.survival:
        remedy = "survival needs slide_id, time and event (1 or 0)"
    elif missing == ["label"] and table.find(("time",)) and table.find(("event",)):
        remedy = "for survival pass --survival"
    there = ", ".join(table.columns) or "none"
    reason = f"lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} (there are: {there})"
    return ConfigError(reason, where=table.path, remedy=remedy)


def _usable(
    labelled: Mapping[str, object], bags: Bags, path: Path, *, leave_out: bool
) -> tuple[NDArray[np.int64], dict[str, list[str]]]:
    """Return the numbers of the usable labelled bags, and the unusable slides by the reason."""
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
        listed = "; ".join(
            f"{len(slides)} {reason}: {', '.join(slides[:LISTED])}{', …' * (len(slides) > LISTED)}"
            for reason, slides in problems.items()
        )
        raise ConfigError(
            f"of {len(labelled)} labelled slides, {listed}",
            where=path,
            remedy=f"correct it (features are such as {ids[0]}), or leave them out with --leave-out",
        )
    used = np.flatnonzero(known & ~empty & ~broken)
    if not len(used):
        raise ConfigError(
            "no labelled slide has features", where=path, remedy=f"features are of such as {ids[0]}"
        )
    return used, problems


def _survival(
    rows: Sequence[Mapping[str, str]], slides: Strings, columns: Sequence[str], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    times, happened = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        time, event = (row[name] for name in columns)
        try:
            times[i] = parse_number(time)
            happened[i] = EVENTS[re.sub(r"[.,]0+$", "", event).lower()]
            if not isfinite(times[i]) or times[i] < 0:
                raise ValueError
        except (ValueError, KeyError):
            raise ConfigError(
                f"slide {slides[i]} has the time {time!r} and the event {event!r}",
                where=path,
                remedy="a time is a number from 0 on, an event 1 or 0",
            ) from None
    return times, happened


def _sources(
    wanted: str,
    used: Mapping[str, str],
    column: Callable[[str], Strings],
    slides: Strings,
    patients: Strings,
    path: Path,
) -> Sources:
    if wanted == "patient":
        check_full(patients, "labelled slides have no patient", path)
        return Sources("patients", patients)
    if "groups" in used:
        groups = column(used["groups"])
        check_full(groups, f"labelled slides have no {used['groups']}", path)
        return Sources("groups", groups)
    return patients_or_slides(patients, slides)
