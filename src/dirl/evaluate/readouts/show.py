"""Scores of readouts on the terminal."""

from dirl.core.results import Result
from dirl.evaluate.common.show import print_scores, score_table, scored_on, three_digits, with_interval
from dirl.evaluate.readouts.read import BOTH, CLASS, MEAN, REGIONS
from dirl.evaluate.readouts.summary import ReadoutsSummary
from dirl.features.baselines import Baseline

NAMES = {
    CLASS: "class token",
    MEAN: "mean of patch tokens",
    BOTH: "class token and mean",
    REGIONS: "means of nuclei, ring and rest",
    Baseline.COLOUR_HISTOGRAM: "colour histogram",
}


def print_readouts(result: Result[ReadoutsSummary]) -> None:
    """Print the scores of each readout and of colour, the notes, and the summary's path."""
    summary, split = result.summary, result.summary.split
    nearest = f"knn{summary.neighbours[0]}"
    table = score_table([f"{summary.neighbours[0]}-NN", "over class", "linear", "over class", "4-shot"])
    for name, one in summary.results.items():
        over = one.over_class or {}
        table.add_row(
            NAMES[name],
            with_interval(one.classifiers[nearest].balanced_accuracy),
            with_interval(over[nearest]) if nearest in over else "–",
            with_interval(one.classifiers["linear"].balanced_accuracy),
            with_interval(over["linear"]) if "linear" in over else "–",
            three_digits(one.few_shot.get("4")),
            style="dim" if name == Baseline.COLOUR_HISTOGRAM else "",
        )
    scored = scored_on(f"{summary.tiles} tiles", split.folds, split.scheme, summary.interval.over)
    print_scores(
        f"Balanced accuracy at a width of {summary.width}, chance {summary.chance:.3f}: {scored}",
        table,
        [*summary.notes, f"Summary: {result.path / 'summary.json'}"],
    )
