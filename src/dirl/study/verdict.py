"""What a study allows to be said of its planned contrasts: a loss, or nothing, as plainly as a gain."""

from collections.abc import Mapping
from typing import Any

from dirl.audit.table import PRIMARY
from dirl.report.html import signed

SIGNIFICANT = 0.05

Contrast = Mapping[str, Any]


def judge(summary: Mapping[str, Any]) -> list[str]:
    """Word a sentence for each planned contrast and, for each DiRL arm, whether the cells did it.

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
    return sentences


def shown(contrast: Contrast) -> int:
    """1 or -1 where a contrast shows attention to be spread more or less evenly, else 0.

    It does if every run of it passes the gate and Holm's p is below 0.05.
    """
    p = contrast["p_holm"]
    if contrast["ungated"] or p is None or p >= SIGNIFICANT:
        return 0
    return 1 if contrast["measures"][PRIMARY]["difference"] > 0 else -1


def _sentence(contrast: Contrast) -> str:
    primary, p = contrast["measures"][PRIMARY], contrast["p_holm"]
    name = f"{contrast['objective']}: {contrast['arm']} against {contrast['against']}"
    if primary["difference"] is None:
        return f"{name}: no seed has both."
    seeds = f"{primary['seeds']} seed{'s' if primary['seeds'] != 1 else ''}"
    value = f"entropy {signed(primary['difference'])} over {seeds} ({contrast['standing']})"
    if contrast["ungated"]:
        runs = "run fails" if contrast["ungated"] == 1 else "runs fail"
        return f"{name}: {value}, but {contrast['ungated']} {runs} the gate: no evidence about the method."
    if p is None:
        return f"{name}: {value}; too few seeds for a test."
    if not shown(contrast):
        return f"{name}: {value}; no difference shown (Holm's p {p:.2g})."
    word = "more" if shown(contrast) > 0 else "less"
    return f"{name}: {value}; attention is spread {word} evenly (Holm's p {p:.2g})."


def _whether_the_cells(
    objective: str, arm: str, arms: list[Mapping[str, Any]], planned: list[Contrast]
) -> list[str]:
    kinds = {one["arm"]: one["kind"] for one in arms if one["objective"] == objective}
    beaten: dict[str, bool] = {}
    for one in planned:
        if one["objective"] == objective and one["arm"] == arm:
            beaten[one["against"]] = shown(one) > 0
        elif one["objective"] == objective and one["against"] == arm:
            beaten[one["arm"]] = shown(one) < 0
    if not any(won for other, won in beaten.items() if kinds[other] == "vanilla"):
        return []
    controls = {other: won for other, won in beaten.items() if kinds[other] == "control"}
    equal = [other for other, won in controls.items() if not won]
    doubt = "nothing shows that the cells did it"
    if equal:
        return [f"{objective}: {arm} beats vanilla but not {', '.join(equal)}: {doubt}."]
    if not controls:
        return [f"{objective}: {arm} beats vanilla, but was planned against no control: {doubt}."]
    return [f"{objective}: {arm} beats vanilla and {', '.join(controls)}."]
