"""A fine-tuning on the terminal."""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from dirl.core.progress import printer
from dirl.evaluate.finetune.run import FINETUNED, FROZEN, UNTRAINED, FinetuneResult
from dirl.evaluate.probe.show import number, with_interval

TITLES = {
    FINETUNED: "fine-tuned",
    FROZEN: "frozen, linear probe",
    UNTRAINED: "untrained, fine-tuned",
}


def show(result: FinetuneResult, console: Console | None = None) -> None:
    """Print the scores of the fine-tuned encoder and of what it is compared with, differences and notes."""
    console = console or printer()
    summary = result.summary
    split, results = summary["split"], summary["results"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in ("balanced accuracy", "F1", "AUROC", "rates", "epochs"):
        table.add_column(title, justify="right")
    for name, title in TITLES.items():
        if name in results:
            one = results[name]
            chosen = one.get("chosen", [])
            table.add_row(
                title,
                with_interval(one["balanced_accuracy"]),
                number(one["macro_f1"]),
                number(one["macro_auroc"]),
                _listed(f"{each['learning_rate']:g}" for each in chosen),
                _listed(str(each["epochs"]) for each in chosen),
                style="" if name == FINETUNED else "dim",
            )
    console.print(
        f"Chance {summary['chance']:.3f}: {summary['tiles']} tiles, {split['folds']} fold"
        f"{'s' * (split['folds'] > 1)} by {split['scheme']}, intervals over {summary['interval']['over']}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    ours = results[FINETUNED]
    lines = [f"Over the frozen encoder: {_difference(ours['over_frozen'])}."]
    if UNTRAINED in results:
        lines.append(f"Over the untrained one, fine-tuned alike: {_difference(ours['over_untrained'])}.")
    for line in (*lines, *summary["notes"], f"Summary: {result.path / 'summary.json'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _listed(values: Iterable[str]) -> str:
    """Each value once, in the order of the folds."""
    return ", ".join(dict.fromkeys(values))


def _difference(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "–"
    return f"{value['value']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})"
