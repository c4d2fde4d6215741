"""A comparison on the terminal."""

from dirl.core.results import Result
from dirl.evaluate.common.scores import measure_title
from dirl.evaluate.common.show import print_scores, score_table
from dirl.evaluate.compare.statistics import differ
from dirl.evaluate.compare.summary import CompareSummary
from dirl.evaluate.compare.tables import rows_of


def print_comparison(result: Result[CompareSummary]) -> None:
    """Print the scores of all entries, best first; a star marks one that differs from the first result."""
    summary = result.summary
    first = summary.entries[0].name
    table = score_table(map(measure_title, summary.measures))
    for row in rows_of(summary):
        cells = [
            f"{row.measures[how].score.value:.3f}{'*' if differ(found.pair(row.name, first)) else ' '}"
            for how, found in summary.measures.items()
        ]
        table.add_row(row.name, *cells, style="dim" if row.baseline else "")
    metric = summary.metric.replace("_", " ").capitalize()
    print_scores(
        f"{metric}, chance {summary.chance:.3f}; * differs from {first} at 5 % by Holm's correction. "
        f"{summary.items} {summary.of}, split {summary.split.digest[:12]} by {summary.split.scheme}, "
        f"intervals over {summary.interval.over}.",
        table,
        [f"With intervals and all differences: {result.path / 'table.html'}"],
    )
