"""A robustness measurement on the terminal."""

from rich.table import Table

from dirl.config.stages import Corruption, Severity
from dirl.core.intervals import Estimate
from dirl.core.results import Result
from dirl.evaluate.common.show import print_scores, score_table, scored_on, three_digits
from dirl.evaluate.robust.conditions import CLEAN, ROTATION, Condition
from dirl.evaluate.robust.summary import CentreScores, RobustSummary
from dirl.features.baselines import FEATURES, Baseline

KEPT = {FEATURES: "kept", Baseline.UNTRAINED: "kept, untrained", Baseline.COLOUR_HISTOGRAM: "kept, colour"}


def print_robust(result: Result[RobustSummary]) -> None:
    """Print by corruption the share of the score that is kept and the drift, then the centres and notes."""
    summary, split = result.summary, result.summary.split
    features = summary.results[FEATURES]
    lines = []
    table = None
    kinds = [kind for kind in summary.damage if kind != ROTATION]
    if kinds:
        severities = sorted(summary.severities)
        middle = severities[len(severities) // 2]
        table = _corruptions(summary, kinds, severities, middle)
        beside = ", also of the untrained encoder and of the colour histogram"
        lines.append(
            "kept: score under damage over clean, mean over severities"
            f"{beside if len(summary.results) > 1 else ''}; "
            f"drift at severity {middle}, in percent of the spread between different tiles."
        )
    if ROTATION in summary.damage:
        turned = features.relative[ROTATION].linear
        quarter = _percent(features.at(Condition(ROTATION, 90)).drift_share)
        lines.append(f"Turned by any angle: {turned:.2f} of the score is kept; drift {quarter} at 90°.")
    if features.centres is not None:
        lines += _centres(features.centres)
    print_scores(
        f"Balanced accuracy of a linear probe fitted on undamaged tiles, by severity; chance "
        f"{summary.chance:.3f}. "
        f"{scored_on(f'{summary.tiles} tiles', split.folds, split.scheme, summary.interval.over)}.",
        table,
        [*lines, *summary.notes, f"Curves: {result.path / 'figures'}"],
    )


def _corruptions(
    summary: RobustSummary, kinds: list[Corruption], severities: list[Severity], middle: Severity
) -> Table:
    features = summary.results[FEATURES]
    sets = [name for name in KEPT if name in summary.results]
    table = score_table(["clean", *map(str, severities), *(KEPT[name] for name in sets), "drift"])
    for kind in kinds:
        shown = [Condition(CLEAN), *(Condition(kind, severity) for severity in severities)]
        table.add_row(
            kind,
            *(three_digits(features.at(condition).linear) for condition in shown),
            *(f"{summary.results[name].relative[kind].linear:.2f}" for name in sets),
            _percent(features.at(Condition(kind, middle)).drift_share),
        )
    return table


def _centres(found: CentreScores) -> list[str]:
    lines = []
    if found.robustness_index is not None:
        index = three_digits(found.robustness_index)
        lines.append(f"Robustness index over {len(found.centres)} centres: {index}.")
    if found.left_out is not None:
        lines.append(f"Each centre left out in turn: {three_digits(found.left_out.linear)}.")
    if found.named is not None:
        linear = three_digits(found.named.linear)
        lines.append(f"A probe names the centre with {linear}, chance {found.named.chance:.3f}.")
    return [*lines, *found.notes]


def _percent(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{100 * estimate.value:.0f} %"
