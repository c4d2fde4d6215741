"""A robustness measurement on the terminal."""

from rich.console import Console
from rich.table import Table

from dirl.core.intervals import Estimate
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.evaluate.probe.show import number
from dirl.evaluate.robust.conditions import CLEAN, ROTATION, Condition
from dirl.evaluate.robust.summary import CentreScores, RobustScores, RobustSummary
from dirl.features.baselines import FEATURES, Baseline

KEPT = {FEATURES: "kept", Baseline.UNTRAINED: "untr.", Baseline.COLOUR_HISTOGRAM: "hist."}


def print_robust(result: Result[RobustSummary], console: Console | None = None) -> None:
    """Print by corruption the share of the score that is kept and the drift, then the centres and notes."""
    console = console or printer()
    summary = result.summary
    features, split = summary.results[FEATURES], summary.split
    console.print(
        f"Balanced accuracy of a linear probe fitted on undamaged tiles, by severity; chance "
        f"{summary.chance:.3f}. {summary.tiles} tiles, {split.folds} folds by {split.scheme}, "
        f"intervals over {summary.interval.over}.",
        highlight=False,
        soft_wrap=True,
    )
    lines = []
    kinds = [kind for kind in summary.damage if kind != ROTATION]
    if kinds:
        severities = sorted(summary.severities)
        middle = severities[len(severities) // 2]
        console.print(_corruptions(summary, kinds, severities, middle))
        lines.append(
            "kept: score under damage over clean, mean over severities"
            + (
                ", beside the untrained encoder's and the colour histogram's"
                if len(summary.results) > 1
                else ""
            )
            + f"; drift at severity {middle}, in percent of the spread between different tiles."
        )
    if ROTATION in summary.damage:
        turned = features.relative[ROTATION].linear
        quarter = _percent(features.at(Condition(ROTATION, 90)).drift_share)
        lines.append(f"Turned by any angle: {turned:.2f} of the score is kept; drift {quarter} at 90°.")
    if features.centres is not None:
        lines += _centres(features.centres)
    for line in (*lines, *summary.notes, f"Curves: {result.path / 'figures'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _corruptions(summary: RobustSummary, kinds: list[str], severities: list[int], middle: int) -> Table:
    features = summary.results[FEATURES]
    sets = [name for name in KEPT if name in summary.results]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in ("clean", *map(str, severities), *(KEPT[name] for name in sets), "drift"):
        table.add_column(title, justify="right")
    for kind in kinds:
        table.add_row(
            kind,
            _linear(features, CLEAN),
            *(_linear(features, kind, severity) for severity in severities),
            *(f"{summary.results[name].relative[kind].linear:.2f}" for name in sets),
            _percent(features.at(Condition(kind, middle)).drift_share),
        )
    return table


def _linear(scores: RobustScores, kind: str, level: int = 0) -> str:
    return number(scores.at(Condition(kind, level)).linear)


def _centres(found: CentreScores) -> list[str]:
    lines = []
    if found.robustness_index is not None:
        index = number(found.robustness_index)
        lines.append(f"Robustness index over {len(found.centres)} centres: {index}.")
    if found.left_out is not None:
        lines.append(f"Each centre left out in turn: {number(found.left_out.linear)}.")
    if found.named is not None:
        named = found.named
        lines.append(f"A probe names the centre with {number(named.linear)}, chance {named.chance:.3f}.")
    return [*lines, *found.notes]


def _percent(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{100 * estimate.value:.0f} %"
