"""A probe's result on the terminal."""

from dirl.core.results import Result
from dirl.evaluate.common.show import print_scores, score_table, scored_on, three_digits, with_interval
from dirl.evaluate.probe.summary import ProbeSummary
from dirl.features.baselines import FEATURES, TITLES


def print_probe(result: Result[ProbeSummary]) -> None:
    """Print the scores of the features and of every baseline, the gate, the notes, and the summary's path."""
    summary, split = result.summary, result.summary.split
    first, *others = summary.neighbours
    others.sort(reverse=True)
    neighbours = (first, *others)
    ready = ("linear", *(f"knn{k}" for k in neighbours))
    own = [how for how in summary.results[FEATURES].classifiers if how not in ready]
    table = score_table([*(f"{k}-NN" for k in neighbours), "linear", "AUROC", *own, "4-shot", "mAP"])
    for name, one in summary.results.items():
        table.add_row(
            TITLES[name],
            with_interval(one.knn(first).balanced_accuracy),
            *(three_digits(one.knn(k).balanced_accuracy) for k in others),
            with_interval(one.linear.balanced_accuracy),
            three_digits(one.linear.macro_auroc),
            *(with_interval(one.classifiers[how].balanced_accuracy) for how in own),
            three_digits(one.few_shot.get("4")),
            three_digits(one.retrieval["map"]),
            style="" if name == FEATURES else "dim",
        )
    scored = scored_on(f"{summary.tiles} tiles", split.folds, split.scheme, summary.interval.over)
    print_scores(
        f"Balanced accuracy, chance {summary.chance:.3f}: {scored}",
        table,
        [summary.gate.statement, *summary.notes, f"Summary: {result.path / 'summary.json'}"],
    )
