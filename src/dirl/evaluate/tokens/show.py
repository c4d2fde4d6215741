"""Scores of tokens on the terminal."""

from collections.abc import Iterator

from rich.table import Table

from dirl.core.results import Result
from dirl.evaluate.common.show import print_scores, score_table, three_digits, with_interval
from dirl.evaluate.tokens.summary import TokensSummary
from dirl.features.baselines import FEATURES

TITLES = {
    FEATURES: "tokens",
    "untrained": "tokens, untrained",
    "rgb_around": "colours, 3 × 3 tokens",
    "rgb": "colours of the token",
}


def print_tokens(result: Result[TokensSummary]) -> None:
    """Print the scores of the tokens and of every baseline, the notes, and the summary's path."""
    summary = result.summary
    for headline, table in _tables(summary):
        print_scores(headline, table, [""])
    where = [*summary.notes, f"Summary: {result.path / 'summary.json'}"]
    print_scores(
        f"{summary.tokens} tokens of {summary.token_um:.1f} µm in {summary.tiles} tiles; "
        f"{summary.folds} folds by {summary.groups}, intervals over {summary.interval.over}",
        None,
        where,
    )


def _tables(summary: TokensSummary) -> Iterator[tuple[str, Table]]:
    for area, prevalence in summary.prevalence.items():
        table = score_table(["AUROC", "over 3 × 3", "AP", "Dice"])
        for name, one in summary.results.items():
            found = one.areas[area]
            table.add_row(
                TITLES[name],
                with_interval(found.auroc),
                three_digits(found.over_rgb),
                three_digits(found.average_precision),
                three_digits(found.dice),
                style="" if name == FEATURES else "dim",
            )
        yield f"{area}: {prevalence:.0%} of the tokens", table
    types = {name: one.types for name, one in summary.results.items() if one.types is not None}
    if not types:
        return
    table = score_table(["balanced accuracy", "over 3 × 3", "macro F1"])
    for name, scores in types.items():
        table.add_row(
            TITLES[name],
            with_interval(scores.balanced_accuracy),
            three_digits(scores.over_rgb),
            three_digits(scores.macro_f1),
            style="" if name == FEATURES else "dim",
        )
    yield f"Types of {sum(summary.classes.values())} nuclei", table
    around = types["rgb_around"].classes if "rgb_around" in types else {}
    table = score_table(["n", "recall", "precision", "F1", "F1 of colours, 3 × 3"])
    for kind, each in types[FEATURES].classes.items():
        table.add_row(
            kind,
            str(each.n),
            with_interval(each.recall),
            with_interval(each.precision),
            with_interval(each.f1),
            three_digits(around[kind].f1 if kind in around else None),
        )
    yield "Each type, by the tokens", table
