"""A fine-tuning on the terminal."""

from collections.abc import Iterable

from dirl.core.intervals import Estimate
from dirl.core.results import Result
from dirl.evaluate.common.show import print_scores, score_table, scored_on, three_digits, with_interval
from dirl.evaluate.finetune.summary import FINETUNED, FROZEN, UNTRAINED, FinetuneSummary, TunedScores

TITLES = {
    FINETUNED: "fine-tuned",
    FROZEN: "frozen, linear probe",
    UNTRAINED: "untrained, fine-tuned",
}


def print_finetune(result: Result[FinetuneSummary]) -> None:
    """Print the scores of the fine-tuned encoder and of its baselines, the differences and the notes."""
    summary, split, tuned = result.summary, result.summary.split, result.summary.results.finetuned
    scores = summary.results.by_name
    table = score_table(["balanced accuracy", "F1", "AUROC", "learning rates", "epochs"])
    for name, title in TITLES.items():
        if name in scores:
            one = scores[name]
            chosen = one.chosen if isinstance(one, TunedScores) else []
            table.add_row(
                title,
                with_interval(one.balanced_accuracy),
                three_digits(one.macro_f1),
                three_digits(one.macro_auroc),
                _each_once(f"{each.learning_rate:g}" for each in chosen),
                _each_once(str(each.epochs) for each in chosen),
                style="" if name == FINETUNED else "dim",
            )
    lines = [f"Over the frozen encoder: {_difference(tuned.over_frozen)}."]
    if tuned.over_untrained is not None:
        lines.append(f"Over the untrained one, fine-tuned alike: {_difference(tuned.over_untrained)}.")
    scored = scored_on(f"{summary.tiles} tiles", split.folds, split.scheme, summary.interval.over)
    print_scores(
        f"Chance {summary.chance:.3f}: {scored}",
        table,
        [*lines, *summary.notes, f"Summary: {result.path / 'summary.json'}"],
    )


def _each_once(values: Iterable[str]) -> str:
    """List values in the order of the folds."""
    return ", ".join(dict.fromkeys(values))


def _difference(estimate: Estimate) -> str:
    return estimate.text("+.3f", between=" to ")
