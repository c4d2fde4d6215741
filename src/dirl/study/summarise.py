"""Summarise the rows of all runs: arms over seeds, and the differences between arms."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy import stats

from dirl.config import RobustConfig
from dirl.core.intervals import holm
from dirl.study.matrix import StudyConfig
from dirl.study.summary import PRIMARY, Arm, ArmContrast, MeanSd, Paired, RunRow, StudySummary

LEVEL = 0.95
LEAST_SEEDS = 3
SEEDS_OF_A_CLAIM = 10  # with fewer seeds a difference is only described
ALIKE = 1e-12  # spread of differences, relative to the values, that is rounding error
# Titles of the measures; the first is the primary one. Attention is that of the last block: of the joint map,
# the heads' average, unless the title says otherwise.
TITLES = {
    PRIMARY: "entropy",
    "entropy_tissue": "entropy on tissue",
    "entropy_training": "entropy at the training's size",
    "head_diversity": "divergence of heads",
    "entropy_per_head": "entropy per head",
    "entropy_untrained": "entropy, untrained",
    "gini": "Gini",
    "effective_tokens": "effective tokens",
    "enrichment_nuclei": "nuclei, log2",
    "enrichment_rest": "rest, log2",
    "enrichment_glass": "glass, log2",
    "components50": "nuclei attended",
    "top10_mass": "top 10 % mass",
    "patch_mass": "patch mass",
    "prior_contrast": "prior contrast",
    "embedding_std": "embedding std",
    "embedding_rank": "embedding rank",
    "rank_held_out": "embedding rank, held out",
    "loss_first": "first loss",
    "loss_last": "last loss",
    "retrieval": "view retrieval",
    "knn": "kNN",
    "linear": "linear",
    "few_shot": "4 labels a class",
    "knn_tokens": "kNN, patch tokens",
    "linear_tokens": "linear, patch tokens",
    "few_shot_tokens": "4 labels a class, patch tokens",
    **{f"drift_{kind}": f"drift, {kind}" for kind in RobustConfig().damage},
    "knn_untrained": "kNN, untrained",
    "knn_colour": "kNN, colour",
    "knn_histogram": "kNN, histogram",
    "linear_untrained": "linear, untrained",
    "linear_colour": "linear, colour",
    "linear_histogram": "linear, histogram",
    "seconds": "seconds",
}
# Measures whose differences between arms are taken.
COMPARED = (PRIMARY, "entropy_tissue", "entropy_training", "head_diversity", "entropy_per_head", "gini",
            "effective_tokens", "components50", "enrichment_nuclei", "enrichment_rest", "enrichment_glass",
            "rank_held_out", "knn", "linear", "few_shot",
            "knn_tokens", "linear_tokens", "few_shot_tokens",
            *(f"drift_{kind}" for kind in RobustConfig().damage))  # fmt: skip


def summarise_study(study: StudyConfig, rows: Sequence[RunRow]) -> StudySummary:
    """Summarise the rows of all runs: arms over seeds, and differences between arms.

    Only the primary measure of a planned contrast is tested. All else is exploratory.
    """
    arms = [
        _arm(objective, arm, [row for row in rows if (row.objective, row.arm) == (objective, arm)])
        for objective in study.objectives
        for arm in study.all_arms
    ]
    planned = [_contrast(rows, o, a, b, planned=True) for o in study.objectives for a, b in study.contrasts]
    of_all = holm([one.primary.p for one in planned])
    of_passing = holm([(one.passing or one.measures)[PRIMARY].p for one in planned])
    corrected = [
        one.model_copy(update={"p_holm": p, "p_holm_passing": passing})
        for one, p, passing in zip(planned, of_all, of_passing, strict=True)
    ]
    return StudySummary(
        primary=PRIMARY,
        objectives=list(study.objectives),
        seeds=list(study.seeds),
        failed={row.run: row.failed for row in rows if row.failed},
        arms=arms,
        contrasts=[*corrected, *_unplanned(study, rows)],
        notes=sorted({note for row in rows for note in row.notes}),
        runs=list(rows),
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


def _contrast(
    rows: Sequence[RunRow], objective: str, arm: str, against: str, *, planned: bool
) -> ArmContrast:
    a, b = (
        {row.seed: row for row in rows if (row.objective, row.arm) == (objective, name) and not row.failed}
        for name in (arm, against)
    )
    both = a.keys() & b.keys()
    ungated = [seed for seed in both for side in (a, b) if not side[seed].passes]
    measures = _differences(a, b, both, planned)
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
        passing=_differences(a, b, both - {*ungated}, planned) if ungated else None,
    )


def _differences(
    a: Mapping[int, RunRow], b: Mapping[int, RunRow], seeds: Set[int], planned: bool
) -> dict[str, Paired]:
    found = {}
    for name in COMPARED:
        one, other = ({seed: side[seed].measures.get(name) for seed in seeds} for side in (a, b))
        difference = paired(one, other)
        found[name] = difference if planned and name == PRIMARY else replace(difference, p=None)
    return found


def _unplanned(study: StudyConfig, rows: Sequence[RunRow]) -> Iterator[ArmContrast]:
    named = {frozenset(pair) for pair in study.contrasts}
    for objective in study.objectives:
        for against, arm in combinations(study.all_arms, 2):
            if {arm, against} not in named:
                yield _contrast(rows, objective, arm, against, planned=False)


def paired(arm: Mapping[int, float | None], against: Mapping[int, float | None]) -> Paired:
    """Compare the values of two arms by seed. A seed without a value on both sides is left out."""
    a, b = ({seed: v for seed, v in values.items() if v is not None} for values in (arm, against))
    seeds = sorted(a.keys() & b.keys())
    values = np.array([[a[seed], b[seed]] for seed in seeds]).reshape(-1, 2)
    differences = values[:, 0] - values[:, 1]
    n = len(seeds)
    mean = float(differences.mean()) if n else None
    sd = float(differences.std(ddof=1)) if n > 1 else None
    if mean is None or sd is None or n < LEAST_SEEDS or sd <= ALIKE * np.abs(values).max():
        return Paired(n, mean, sd, None, None, None)
    error = sd / np.sqrt(n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return Paired(n, mean, sd, mean - reach, mean + reach, p)
