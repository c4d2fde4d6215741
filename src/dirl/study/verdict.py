"""Sentences on the planned contrasts of a study. A loss or no difference is worded as plainly as a gain."""

from dirl.audit.verdict import NEARLY_UNIFORM
from dirl.report.html import format_signed
from dirl.study.summarise import TITLES
from dirl.study.summary import PRIMARY, Arm, ArmContrast, Paired, StudySummary

SIGNIFICANT = 0.05
SCORES = ("knn", "linear")


def sentences(summary: StudySummary) -> list[str]:
    """Word each planned contrast, whether the cells explain it, and which arms are nearly uniform."""
    found = [_sentence(one) for one in summary.planned]
    for arm in summary.arms:
        if arm.kind == "dirl":
            found += _compare_with_controls(arm, summary)
    return found + [text for arm in summary.arms for text in _nearly_uniform(arm)]


def shown_direction(contrast: ArmContrast) -> int:
    """1 or -1 if a contrast shows that attention is spread more or less evenly, else 0.

    Holm's p must be below 0.05 and the sign the same, over all seeds and over those that pass the gate.
    """
    signs = set()
    for p, measures in _both(contrast):
        if p is None or p >= SIGNIFICANT:
            return 0
        signs.add(1 if (measures[PRIMARY].difference or 0) > 0 else -1)
    return signs.pop() if len(signs) == 1 else 0


def _both(contrast: ArmContrast) -> list[tuple[float | None, dict[str, Paired]]]:
    """Holm's p and differences over all seeds and, if some fail the gate, over those that pass."""
    found = [(contrast.p_holm, contrast.measures)]
    if contrast.passing:
        found.append((contrast.p_holm_passing, contrast.passing))
    return found


def _sentence(contrast: ArmContrast) -> str:
    primary, passing = contrast.primary, contrast.passing
    name = f"{contrast.objective}: {contrast.arm} against {contrast.against}"
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
    values = [p for p, _ in _both(contrast)]
    if None in values:
        return f"{name}: {value}; too few seeds for a test."
    holms = f"(Holm's p {' and '.join(f'{p:.2g}' for p in values)})"
    if not shown_direction(contrast):
        return f"{name}: {value}; no difference shown {holms}."
    word = "more" if shown_direction(contrast) > 0 else "less"
    return f"{name}: {value}; attention is spread {word} evenly {holms}."


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
            "passing": contrast.passing and {name: value.turned for name, value in contrast.passing.items()},
        }
    )


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
