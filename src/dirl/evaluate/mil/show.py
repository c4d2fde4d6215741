"""Slide models' results on the terminal."""

from rich.text import Text

from dirl.core.results import Result
from dirl.evaluate.common.show import print_scores, score_table, scored_on, three_digits, with_interval
from dirl.evaluate.mil.summary import MilSummary
from dirl.features.baselines import FEATURES, TITLES

MODEL_TITLES = {
    "mean": "mean pooling",
    "abmil": "ABMIL",
    "clam": "CLAM-SB",
    "transmil": "TransMIL",
    "dsmil": "DSMIL",
}
METRIC_TITLES = {
    "macro_auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "F1",
    "concordance": "concordance",
}


def print_mil(result: Result[MilSummary]) -> None:
    """Print each model's scores, its first metric on every baseline, the notes, and the summary's path."""
    summary, split = result.summary, result.summary.split
    metrics = {name: title for name, title in METRIC_TITLES.items() if name in summary.metrics}
    first = next(iter(metrics))
    baselines = [name for name in summary.results if name != FEATURES]
    table = score_table([*metrics.values(), *(f"({TITLES[name]})" for name in baselines)])
    for model, one in summary.models.items():
        on_baselines = (summary.results[name][model].metrics[first] for name in baselines)
        table.add_row(
            MODEL_TITLES[model],
            *(with_interval(one.metrics[name]) for name in metrics),
            *(Text(three_digits(each), "dim") for each in on_baselines),
        )
    groups = f"{split.groups} {split.scheme}" if split.scheme != "folds" else "given folds"
    items = f"{summary.slides} slides of {summary.tiles} tiles"
    print_scores(
        f"{summary.task.capitalize()}, chance {summary.chance:.3f}: "
        + scored_on(items, split.folds, groups, summary.interval.over)
        + (f"; in brackets {metrics[first]} on the baselines" if baselines else ""),
        table,
        [*summary.notes, f"Summary: {result.path / 'summary.json'}"],
    )
