"""Summarise the rows of all runs: arms over seeds, and the differences between arms."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import combinations

import numpy as np

from dirl.core.intervals import Estimate, holm
from dirl.study.matrix import START, Margin, StudyConfig
from dirl.study.measures import COMPARED, PRIMARY, TITLES
from dirl.study.statistics import hierarchical, p_of_loss, paired
from dirl.study.summary import Arm, ArmContrast, MeanSd, NoLoss, Paired, RunRow, StudySummary

SEEDS_OF_A_CLAIM = 10  # with fewer seeds a difference is only described


def summarise_study(study: StudyConfig, rows: Sequence[RunRow]) -> StudySummary:
    """Summarise the rows of all runs: arms over seeds, and differences between arms.

    Of planned contrasts, the primary measures are tested, and those with a margin. All else is exploratory.
    """
    arms = [
        _arm(objective, arm, [row for row in rows if (row.objective, row.arm) == (objective, arm)])
        for objective in study.objectives
        for arm in study.all_arms
    ]
    planned = [
        _planned(study, rows, _contrast(study, rows, o, a, b, planned=True))
        for o in study.objectives
        for a, b in study.contrasts
    ]
    return StudySummary(
        primary=list(study.primary),
        objectives=list(study.objectives),
        seeds=list(study.seeds),
        failed={row.run: row.failed for row in rows if row.failed},
        arms=arms,
        contrasts=[*_corrected(planned, study), *_unplanned(study, rows)],
        notes=sorted({note for row in rows for note in row.notes}),
        runs=[row.model_copy(update={"units": {}}) for row in rows],
    )


def _arm(objective: str, arm: str, rows: Sequence[RunRow]) -> Arm:
    done = [row for row in rows if not row.failed]
    return Arm(
        objective=objective,
        arm=arm,
        kind=rows[0].kind if rows else None,
        runs=len(done),
        failed=len(rows) - len(done),
        gate_passed=sum(row.passes for row in done),
        label_free_gate_passed=sum(row.gate is not None and row.gate.label_free for row in done),
        measures={name: _mean_sd([row.measures.get(name) for row in done]) for name in TITLES},
    )


def _mean_sd(values: Sequence[float | None]) -> MeanSd:
    given = np.array([value for value in values if value is not None])
    return MeanSd(
        mean=float(given.mean()) if len(given) else None,
        sd=float(given.std(ddof=1)) if len(given) > 1 else None,
        n=len(given),
    )


def _of(rows: Sequence[RunRow], objective: str, arm: str) -> dict[int, RunRow]:
    """The finished runs of an arm by seed."""
    return {row.seed: row for row in rows if (row.objective, row.arm) == (objective, arm) and not row.failed}


def _contrast(
    study: StudyConfig, rows: Sequence[RunRow], objective: str, arm: str, against: str, *, planned: bool
) -> ArmContrast:
    a, b, start = (_of(rows, objective, name) for name in (arm, against, START))
    both = a.keys() & b.keys()
    gated = (start,) if study.gate == "starts" else (a, b)
    ungated = [seed for seed in both for side in gated if seed not in side or not side[seed].passes]
    tested = study.primary if planned else ()
    measures = _differences(a, b, both, tested)
    seeds = measures[PRIMARY].seeds
    return ArmContrast(
        objective=objective,
        arm=arm,
        against=against,
        planned=planned,
        # A difference that was not planned is never a claim, however many seeds it has.
        standing="exploratory" if not planned else "descriptive" if seeds < SEEDS_OF_A_CLAIM else "claim",
        ungated=len(ungated),
        measures=measures,
        passing=_differences(a, b, both - {*ungated}, tested) if ungated else None,
    )


def _planned(study: StudyConfig, rows: Sequence[RunRow], contrast: ArmContrast) -> ArmContrast:
    """Add what only a planned contrast has: tests of no loss, and intervals over units."""
    a, b = (_of(rows, contrast.objective, arm) for arm in (contrast.arm, contrast.against))
    seeds = sorted(a.keys() & b.keys())
    over_units: dict[str, Estimate] = {}
    for name in dict.fromkeys((*study.primary, *study.margins)):
        known = [seed for seed in seeds if name in a[seed].units and name in b[seed].units]
        found = hierarchical(*([side[seed].units[name] for seed in known] for side in (a, b)))
        if found is not None:
            over_units[name] = found
    return contrast.model_copy(
        update={
            "no_loss": {name: _no_loss(contrast, name, stated, b) for name, stated in study.margins.items()},
            "over_units": over_units,
        }
    )


def _no_loss(contrast: ArmContrast, name: str, stated: Margin, against: Mapping[int, RunRow]) -> NoLoss:
    margin: float | None
    if isinstance(stated, str):
        mean = _mean_sd([row.measures.get(name) for row in against.values()]).mean
        margin = None if mean is None else float(stated.rstrip(" %")) / 100 * mean
    else:
        margin = stated
    ps = [] if margin is None else [p_of_loss(measures[name], margin) for measures in contrast.both]
    known = [p for p in ps if p is not None]
    p = max(known) if known and len(known) == len(ps) else None
    return NoLoss(stated=str(stated).strip(), margin=margin, p=p)


def _corrected(planned: Sequence[ArmContrast], study: StudyConfig) -> list[ArmContrast]:
    """Add Holm's p. Primary measures are a family of all contrasts, and so are the tests of no loss."""
    of_all, of_passing = (
        iter(holm([(one.both[place])[name].p for one in planned for name in study.primary]))
        for place in (0, -1)
    )
    of_loss = iter(holm([found.p for one in planned for found in one.no_loss.values()]))
    corrected = []
    for one in planned:
        measures, passing = dict(one.measures), None if one.passing is None else dict(one.passing)
        for name in study.primary:
            measures[name] = replace(measures[name], p_holm=next(of_all))
            p = next(of_passing)
            if passing is not None:
                passing[name] = replace(passing[name], p_holm=p)
        no_loss = {
            name: found.model_copy(update={"p_holm": next(of_loss)}) for name, found in one.no_loss.items()
        }
        corrected.append(
            one.model_copy(update={"measures": measures, "passing": passing, "no_loss": no_loss})
        )
    return corrected


def _differences(
    a: Mapping[int, RunRow], b: Mapping[int, RunRow], seeds: Set[int], tested: Sequence[str]
) -> dict[str, Paired]:
    found = {}
    for name in COMPARED:
        one, other = ({seed: side[seed].measures.get(name) for seed in seeds} for side in (a, b))
        difference = paired(one, other)
        found[name] = difference if name in tested else replace(difference, p=None)
    return found


def _unplanned(study: StudyConfig, rows: Sequence[RunRow]) -> Iterator[ArmContrast]:
    named = {frozenset(pair) for pair in study.contrasts}
    for objective in study.objectives:
        for against, arm in combinations(study.all_arms, 2):
            if {arm, against} not in named:
                yield _contrast(study, rows, objective, arm, against, planned=False)
