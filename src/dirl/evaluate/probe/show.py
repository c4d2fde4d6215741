"""A probe's result on the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dirl.core.progress import printer
from dirl.evaluate.probe.run import ProbeResult

TITLES = {
    "features": "features",
    "untrained": "untrained encoder",
    "colour_statistics": "colour mean, sd",
    "colour_histogram": "colour histogram",
}


def show(result: ProbeResult, console: Console | None = None) -> None:
    """Print the scores of the features and of every baseline, the gate, the notes, and where the rest is."""
    console = console or printer()
    summary = result.summary
    first, *others = summary["neighbours"]
    split = summary["split"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in (f"{first}-NN", *(f"{k}-NN" for k in others), "linear", "AUROC", "4-shot", "mAP"):
        table.add_column(title, justify="right")
    for name, one in summary["results"].items():
        table.add_row(
            TITLES[name],
            with_interval(one[f"knn{first}"]["balanced_accuracy"]),
            *(number(one[f"knn{k}"]["balanced_accuracy"]) for k in others),
            with_interval(one["linear"]["balanced_accuracy"]),
            number(one["linear"]["macro_auroc"]),
            number(one["few_shot"].get("4", {"value": None})),
            number(one["retrieval"]["map"]),
            style="" if name == "features" else "dim",
        )
    console.print(
        f"Balanced accuracy, chance {summary['chance']:.3f}: {summary['tiles']} tiles, {split['folds']} fold"
        f"{'s' * (split['folds'] > 1)} by {split['scheme']}, intervals over {summary['interval']['over']}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    for line in (summary["gate"]["statement"], *summary["notes"], f"Summary: {result.path / 'summary.json'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def number(value: Mapping[str, float | None]) -> str:
    """Three digits, or a dash where there is no value."""
    return "–" if value["value"] is None else f"{value['value']:.3f}"


def with_interval(value: Mapping[str, float | None]) -> str:
    """A value and the interval that it lies in, if there is one."""
    if value["low"] is None:
        return number(value)
    return f"{value['value']:.3f} ({value['low']:.2f}–{value['high']:.2f})"
