"""Scores of tokens on the terminal."""

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
    typed = bool(summary.classes)
    columns = ["nuclei: AUROC", "over 3 × 3", "AP", "Dice"]
    table = score_table([*columns, *(["types: bal. accuracy", "over 3 × 3"] if typed else [])])
    for name, one in summary.results.items():
        types = one.types
        table.add_row(
            TITLES[name],
            with_interval(one.nuclei.auroc),
            three_digits(one.nuclei.over_rgb),
            three_digits(one.nuclei.average_precision),
            three_digits(one.nuclei.dice),
            *([with_interval(types.balanced_accuracy), three_digits(types.over_rgb)] if types else []),
            style="" if name == FEATURES else "dim",
        )
    print_scores(
        f"{summary.tokens} tokens of {summary.token_um:.1f} µm in {summary.tiles} tiles, "
        f"{summary.prevalence:.0%} nuclei; {summary.folds} folds by {summary.groups}, intervals over "
        f"{summary.interval.over}",
        table,
        [*summary.notes, f"Summary: {result.path / 'summary.json'}"],
    )
