"""Slide models' results on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.evaluate.mil.summary import MilSummary
from dirl.evaluate.probe.show import number, with_interval
from dirl.features.baselines import FEATURES, TITLES

MODELS = {
    "mean": "mean pooling",
    "abmil": "ABMIL",
    "clam": "CLAM-SB",
    "transmil": "TransMIL",
    "dsmil": "DSMIL",
}
METRICS = {
    "macro_auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "F1",
    "concordance": "concordance",
}


def print_mil(result: Result[MilSummary], console: Console | None = None) -> None:
    """Print each model's scores, its first metric on every baseline, the notes, and the summary's path."""
    console = console or printer()
    summary, split = result.summary, result.summary.split
    metrics = [name for name in METRICS if name in summary.metrics]
    baselines = [name for name in summary.results if name != FEATURES]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in (*(METRICS[name] for name in metrics), *(f"({TITLES[name]})" for name in baselines)):
        table.add_column(title, justify="right")
    for model, one in summary.models.items():
        on_baselines = (summary.results[name][model].metrics[metrics[0]] for name in baselines)
        table.add_row(
            MODELS[model],
            *(with_interval(one.metrics[name]) for name in metrics),
            *(Text(number(each), "dim") for each in on_baselines),
        )
    groups = f"{split.groups} {split.scheme}" if split.scheme != "folds" else "given folds"
    console.print(
        f"{summary.task.capitalize()}, chance {summary.chance:.3f}: {summary.slides} slides of "
        f"{summary.tiles} tiles, {split.folds} fold{'s' * (split.folds > 1)} by {groups}, "
        f"intervals over {summary.interval.over}"
        + (f"; in brackets {METRICS[metrics[0]]} on the baselines" if baselines else ""),
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    for line in (*summary.notes, f"Summary: {result.path / 'summary.json'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
