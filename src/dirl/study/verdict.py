"""What a study allows to be said of its planned contrasts: a loss, or nothing, as plainly as a gain."""

from collections.abc import Mapping
from typing import Any

from dirl.audit.titles import PRIMARY
from dirl.audit.verdict import NEARLY_UNIFORM
from dirl.report.html import signed
from dirl.study.summary import TITLES

SIGNIFICANT = 0.05
SCORES = ("knn", "linear")

Contrast = Mapping[str, Any]


def judge(summary: Mapping[str, Any]) -> list[str]:
    """Word a sentence for each planned contrast, whether the cells did it, and which arms to distrust.

    Parameters
    ----------
    summary
        From `summary.summarise`.
    """
    planned = [one for one in summary["contrasts"] if one["planned"]]
    sentences = [_sentence(one) for one in planned]
    for arm in summary["arms"]:
        if arm["kind"] == "dirl":
            sentences += _whether_the_cells(arm["objective"], arm["arm"], summary["arms"], planned)
    return sentences + [text for arm in summary["arms"] for text in _nearly_uniform(arm)]


def shown(contrast: Contrast) -> int:
    """1 or -1 where a contrast shows attention to be spread more or less evenly, else 0.

    It does if Holm's p is below 0.05 over all seeds and over those whose runs pass the gate, the same way.
    """
    signs = set()
    for p, measures in _both(contrast):
        if p is None or p >= SIGNIFICANT:
            return 0
        signs.add(1 if measures[PRIMARY]["difference"] > 0 else -1)
    return signs.pop() if len(signs) == 1 else 0


def _both(contrast: Contrast) -> list[tuple[float | None, Mapping[str, Any]]]:
    """Holm's p and differences over all seeds, and over those that pass where some do not."""
    found = [(contrast["p_holm"], contrast["measures"])]
    if contrast["passing"]:
        found.append((contrast["p_holm_passing"], contrast["passing"]))
    return found


def _sentence(contrast: Contrast) -> str:
    primary, passing = contrast["measures"][PRIMARY], contrast["passing"]
    name = f"{contrast['objective']}: {contrast['arm']} against {contrast['against']}"
    if primary["difference"] is None:
        return f"{name}: no seed has both."
    seeds = f"{primary['seeds']} seed{'s' if primary['seeds'] != 1 else ''}"
    value = f"entropy {signed(primary['difference'])} over {seeds} ({contrast['standing']})"
    value += _scores([contrast], ", ")
    if passing:
        runs = "run fails" if contrast["ungated"] == 1 else "runs fail"
        value += f", but {contrast['ungated']} {runs} the gate"
        if passing[PRIMARY]["difference"] is None:
            return f"{name}: {value}: no evidence about the method."
        value += f": {signed(passing[PRIMARY]['difference'])} over the other {passing[PRIMARY]['seeds']}"
        value += _scores([{"measures": passing}], ", ")
    known = [p for p, _ in _both(contrast)]
    if None in known:
        return f"{name}: {value}; too few seeds for a test."
    holms = f"(Holm's p {' and '.join(f'{p:.2g}' for p in known)})"
    if not shown(contrast):
        return f"{name}: {value}; no difference shown {holms}."
    word = "more" if shown(contrast) > 0 else "less"
    return f"{name}: {value}; attention is spread {word} evenly {holms}."


def _whether_the_cells(
    objective: str, arm: str, arms: list[Mapping[str, Any]], planned: list[Contrast]
) -> list[str]:
    kinds = {one["arm"]: one["kind"] for one in arms if one["objective"] == objective}
    against = {
        other: turned
        for one in planned
        if one["objective"] == objective
        for side, other, turned in (
            (one["arm"], one["against"], one),
            (one["against"], one["arm"], _turn(one)),
        )
        if side == arm
    }
    below = [other for other, one in against.items() if shown(one) > 0]
    vanilla = [other for other in below if kinds[other] == "vanilla"]
    if not vanilla:
        return []
    controls = [other for other in against if kinds[other] == "control"]
    equal = [other for other in controls if other not in below]
    said = f"{objective}: {arm} attends more evenly than "
    used = [against[other] for other in (*vanilla, *controls)]
    standing = "claim" if all(one["standing"] == "claim" for one in used) else "descriptive"
    doubt = "nothing shows that the cells did it"
    if equal:
        said += f"{' and '.join(vanilla)}, but not than {', '.join(equal)} ({standing}): {doubt}"
    elif not controls:
        said += f"{' and '.join(vanilla)} ({standing}), but was planned against no control: {doubt}"
    else:
        said += f"{', '.join(vanilla)} and {', '.join(controls)} ({standing})"
    return [f"{said}{_scores([against[other] for other in vanilla], '; ')}."]


def _turn(contrast: Contrast) -> Contrast:
    """Return the contrast seen from its other side."""
    turned = {
        kind: {
            name: value | {"difference": None if value["difference"] is None else -value["difference"]}
            for name, value in contrast[kind].items()
        }
        for kind in ("measures", "passing")
        if contrast[kind]
    }
    return {**contrast, "arm": contrast["against"], "against": contrast["arm"], **turned}


def _scores(contrasts: list[Contrast], before: str) -> str:
    """Differences in downstream scores; nothing without a probe."""
    known = [
        (name, contrast["measures"][name]["difference"])
        for contrast in contrasts
        for name in SCORES
        if contrast["measures"][name]["difference"] is not None
    ]
    told = [f"{TITLES[name]} {signed(value)}{' (a fall)' if value < 0 else ''}" for name, value in known]
    return f"{before}{', '.join(told)}" if told else ""


def _nearly_uniform(arm: Mapping[str, Any]) -> list[str]:
    mean = arm["measures"][PRIMARY]["mean"]
    if mean is None or mean <= NEARLY_UNIFORM:
        return []
    return [
        f"{arm['objective']}: {arm['arm']} attends nearly uniformly (mean entropy {mean:.3f} > "
        f"{NEARLY_UNIFORM}): every measure of spread is close to perfect there and says little."
    ]
