"""Sentences on the planned contrasts of a study. A loss or no difference is worded as plainly as a gain."""

from collections.abc import Sequence

from dirl.audit.verdict import NEARLY_UNIFORM
from dirl.core.intervals import Estimate
from dirl.report.html import format_signed
from dirl.study.measures import PRIMARY, TITLES
from dirl.study.summary import Arm, ArmContrast, Paired, StudySummary

SIGNIFICANT = 0.05
SCORES = ("knn", "linear")


def sentences(summary: StudySummary) -> list[str]:
    """Word each planned contrast, whether the cells explain it, and which arms are nearly uniform."""
    found = []
    for one in summary.planned:
        found += [_sentence(one), *_others(one, summary.primary), *_losses(one)]
    for arm in summary.arms:
        if arm.kind == "dirl":
            found += _compare_with_controls(arm, summary)
    return found + [text for arm in summary.arms for text in _nearly_uniform(arm)]


def shown_direction(contrast: ArmContrast, measure: str = PRIMARY) -> int:
    """1 or -1 if a contrast shows that a measure is higher or lower, else 0.

    Holm's p must be below 0.05 and the sign the same, over all seeds and over those that pass the gate. The
    interval over seeds and units must lie on the same side of 0, if there is one.
    """
    signs = set()
    for found in (measures[measure] for measures in contrast.both):
        if found.p_holm is None or found.p_holm >= SIGNIFICANT:
            return 0
        signs.add(1 if (found.difference or 0) > 0 else -1)
    over = contrast.over_units.get(measure)
    if over is not None and over.low is not None and over.high is not None:
        signs.add(1 if over.low > 0 else -1 if over.high < 0 else 0)
    return signs.pop() if len(signs) == 1 else 0


def _sentence(contrast: ArmContrast) -> str:
    primary, passing = contrast.primary, contrast.passing
    name = _name(contrast)
    if primary.difference is None:
        return f"{name}: no seed has both."
    seeds = f"{primary.seeds} seed{'s' if primary.seeds != 1 else ''}"
    value = f"entropy {format_signed(primary.difference)} over {seeds} ({contrast.standing})"
    value += _scores([contrast.measures], ", ")
    if passing:
        runs = "run fails" if contrast.ungated == 1 else "runs fail"
        value += f", but {contrast.ungated} {runs} the gate"
        if passing[PRIMARY].difference is None:
            return f"{name}: {value}: no evidence about the method."
        value += f": {format_signed(passing[PRIMARY].difference)} over the other {passing[PRIMARY].seeds}"
        value += _scores([passing], ", ")
    holms = _holms(contrast, PRIMARY)
    if holms is None:
        return f"{name}: {value}; too few seeds for a test."
    if not shown_direction(contrast):
        return f"{name}: {value}; no difference shown {holms}."
    word = "more" if shown_direction(contrast) > 0 else "less"
    return f"{name}: {value}; attention is spread {word} evenly {holms}."


def _others(contrast: ArmContrast, primary: Sequence[str]) -> list[str]:
    """Word the primary measures beside entropy."""
    texts = []
    for measure in primary:
        found, holms = contrast.measures[measure], _holms(contrast, measure)
        if measure == PRIMARY or found.difference is None:
            continue
        text = (
            f"{_name(contrast)}: {TITLES[measure]} {format_signed(found.difference)} over {found.seeds} seeds"
        )
        if holms is None:
            texts.append(f"{text}; too few for a test.")
            continue
        word = {1: "higher", 0: "no difference shown", -1: "lower"}[shown_direction(contrast, measure)]
        texts.append(f"{text}; {word} {holms}.")
    return texts


def _losses(contrast: ArmContrast) -> list[str]:
    """Word for each margin whether a loss of this size is excluded."""
    texts = []
    for measure, found in contrast.no_loss.items():
        margin = f"{found.stated} or more"
        if found.p_holm is None:
            text = f"too few seeds to say whether {TITLES[measure]} falls by {margin}"
        elif _excluded(contrast, measure):
            text = f"{TITLES[measure]} does not fall by {margin} (Holm's p {found.p_holm:.2g})"
        else:
            text = f"a fall of {TITLES[measure]} by {margin} is not excluded (Holm's p {found.p_holm:.2g})"
        texts.append(f"{_name(contrast)}: {text}.")
    return texts


def _excluded(contrast: ArmContrast, measure: str) -> bool:
    """Whether both the one-sided test and the interval over units exclude a fall by the margin."""
    found, over = contrast.no_loss[measure], contrast.over_units.get(measure)
    above = over is None or over.low is None or found.margin is None or over.low > -found.margin
    return found.p_holm is not None and found.p_holm < SIGNIFICANT / 2 and above


def _holms(contrast: ArmContrast, measure: str) -> str | None:
    """Word Holm's p over all seeds and over those that pass the gate; None if one is missing."""
    ps = [measures[measure].p_holm for measures in contrast.both]
    known = [f"{p:.2g}" for p in ps if p is not None]
    return f"(Holm's p {' and '.join(known)})" if len(known) == len(ps) else None


def _name(contrast: ArmContrast) -> str:
    return f"{contrast.objective}: {contrast.arm} against {contrast.against}"


def _compare_with_controls(arm: Arm, summary: StudySummary) -> list[str]:
    """Compare an arm that is more even than vanilla with its controls."""
    kinds = {one.arm: one.kind for one in summary.arms if one.objective == arm.objective}
    against: dict[str, ArmContrast] = {}
    for one in summary.planned:
        if one.objective == arm.objective and one.arm == arm.arm:
            against[one.against] = one
        elif one.objective == arm.objective and one.against == arm.arm:
            against[one.arm] = _turn(one)
    less_even = [other for other, one in against.items() if shown_direction(one) > 0]
    vanilla = [other for other in less_even if kinds[other] == "vanilla"]
    if not vanilla:
        return []
    controls = [other for other in against if kinds[other] == "control"]
    equal = [other for other in controls if other not in less_even]
    text = f"{arm.objective}: {arm.arm} attends more evenly than "
    used = [against[other] for other in (*vanilla, *controls)]
    standing = "claim" if all(one.standing == "claim" for one in used) else "descriptive"
    doubt = "nothing shows that the cells did it"
    if equal:
        text += f"{' and '.join(vanilla)}, but not than {', '.join(equal)} ({standing}): {doubt}"
    elif not controls:
        text += f"{' and '.join(vanilla)} ({standing}), but was planned against no control: {doubt}"
    else:
        text += f"{', '.join(vanilla)} and {', '.join(controls)} ({standing})"
    return [f"{text}{_scores([against[other].measures for other in vanilla], '; ')}."]


def _turn(contrast: ArmContrast) -> ArmContrast:
    """Return the contrast with its arms exchanged."""
    return contrast.model_copy(
        update={
            "arm": contrast.against,
            "against": contrast.arm,
            "measures": {name: value.turned for name, value in contrast.measures.items()},
            "over_units": {name: _turn_estimate(value) for name, value in contrast.over_units.items()},
            "passing": contrast.passing and {name: value.turned for name, value in contrast.passing.items()},
        }
    )


def _turn_estimate(found: Estimate) -> Estimate:
    value, low, high = (None if end is None else -end for end in (found.value, found.high, found.low))
    return Estimate(value, low, high)


def _scores(differences: list[dict[str, Paired]], before: str) -> str:
    """Word differences in downstream scores; empty without a probe."""
    texts = []
    for measures in differences:
        for name in SCORES:
            value = measures[name].difference
            if value is not None:
                texts.append(f"{TITLES[name]} {format_signed(value)}{' (a fall)' if value < 0 else ''}")
    return f"{before}{', '.join(texts)}" if texts else ""


def _nearly_uniform(arm: Arm) -> list[str]:
    mean = arm.measures[PRIMARY].mean
    if mean is None or mean <= NEARLY_UNIFORM:
        return []
    return [
        f"{arm.objective}: {arm.arm} attends nearly uniformly (mean entropy {mean:.3f} > "
        f"{NEARLY_UNIFORM}): every measure of spread is close to perfect there and says little."
    ]
