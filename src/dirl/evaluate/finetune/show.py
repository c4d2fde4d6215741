"""A fine-tuning on the terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from dirl.core.intervals import Estimate
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.evaluate.finetune.run import FINETUNED, FROZEN, UNTRAINED
from dirl.evaluate.finetune.summary import FinetuneSummary, TunedScores
from dirl.evaluate.probe.show import number, with_interval

TITLES = {
    FINETUNED: "fine-tuned",
    FROZEN: "frozen, linear probe",
    UNTRAINED: "untrained, fine-tuned",
}


def print_finetune(result: Result[FinetuneSummary], console: Console | None = None) -> None:
    """Print the scores of the fine-tuned encoder and of its baselines, the differences and the notes."""
    console = console or printer()
    summary, split, tuned = result.summary, result.summary.split, result.summary.results.finetuned
    scores = summary.results.by_name
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in ("balanced accuracy", "F1", "AUROC", "rates", "epochs"):
        table.add_column(title, justify="right")
    for name, title in TITLES.items():
        if name in scores:
            one = scores[name]
            chosen = one.chosen if isinstance(one, TunedScores) else []
            table.add_row(
                title,
                with_interval(one.balanced_accuracy),
                number(one.macro_f1),
                number(one.macro_auroc),
                _listed(f"{each.learning_rate:g}" for each in chosen),
                _listed(str(each.epochs) for each in chosen),
                style="" if name == FINETUNED else "dim",
            )
    console.print(
        f"Chance {summary.chance:.3f}: {summary.tiles} tiles, {split.folds} fold"
        f"{'s' * (split.folds > 1)} by {split.scheme}, intervals over {summary.interval.over}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    lines = [f"Over the frozen encoder: {_difference(tuned.over_frozen)}."]
    if tuned.over_untrained is not None:
        lines.append(f"Over the untrained one, fine-tuned alike: {_difference(tuned.over_untrained)}.")
    for line in (*lines, *summary.notes, f"Summary: {result.path / 'summary.json'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _listed(values: Iterable[str]) -> str:
    """Each value once, in the order of the folds."""
    return ", ".join(dict.fromkeys(values))


def _difference(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"
