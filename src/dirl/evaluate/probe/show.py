"""A probe's result on the terminal."""

from rich.console import Console
from rich.table import Table

from dirl.core.intervals import Estimate
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.evaluate.probe.summary import ProbeSummary
from dirl.features.baselines import FEATURES, TITLES


def print_probe(result: Result[ProbeSummary], console: Console | None = None) -> None:
    """Print the scores of the features and of every baseline, the gate, the notes, and the summary's path."""
    console = console or printer()
    summary, split = result.summary, result.summary.split
    first, *others = summary.neighbours
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in (f"{first}-NN", *(f"{k}-NN" for k in others), "linear", "AUROC", "4-shot", "mAP"):
        table.add_column(title, justify="right")
    for name, one in summary.results.items():
        table.add_row(
            TITLES[name],
            with_interval(one.knn(first).balanced_accuracy),
            *(number(one.knn(k).balanced_accuracy) for k in others),
            with_interval(one.linear.balanced_accuracy),
            number(one.linear.macro_auroc),
            number(one.few_shot.get("4")),
            number(one.retrieval["map"]),
            style="" if name == FEATURES else "dim",
        )
    console.print(
        f"Balanced accuracy, chance {summary.chance:.3f}: {summary.tiles} tiles, {split.folds} fold"
        f"{'s' * (split.folds > 1)} by {split.scheme}, intervals over {summary.interval.over}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    for line in (summary.gate.statement, *summary.notes, f"Summary: {result.path / 'summary.json'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def number(estimate: Estimate | None) -> str:
    """Three digits, or a dash if there is no value."""
    return "–" if estimate is None or estimate.value is None else f"{estimate.value:.3f}"


def with_interval(estimate: Estimate) -> str:
    """Return a value and, if there is one, its interval."""
    if estimate.value is None or estimate.low is None:
        return number(estimate)
    return f"{estimate.value:.3f} ({estimate.low:.2f}–{estimate.high:.2f})"
