"""A robustness measurement on the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dirl.core.progress import printer
from dirl.evaluate.probe.show import number
from dirl.evaluate.robust.conditions import CLEAN, ROTATION, Condition
from dirl.evaluate.robust.run import RobustResult

KEPT = {"features": "kept", "untrained": "untr.", "colour_histogram": "hist."}


def show(result: RobustResult, console: Console | None = None) -> None:
    """Print by corruption what is kept of the score, how far features drift, the centres, and the notes."""
    console = console or printer()
    summary = result.summary
    ours = summary["results"]["features"]["conditions"]
    sets = [name for name in KEPT if name in summary["results"]]
    kinds = [kind for kind in summary["damage"] if kind != ROTATION]
    severities = sorted(summary["severities"])
    middle = severities[len(severities) // 2]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in ("clean", *map(str, severities), *(KEPT[name] for name in sets), "drift"):
        table.add_column(title, justify="right")
    clean = ours[str(Condition(CLEAN))]["linear"]
    for kind in kinds:
        table.add_row(
            kind,
            number(clean),
            *(number(ours[str(Condition(kind, severity))]["linear"]) for severity in severities),
            *(f"{summary['results'][name]['relative'][kind]['linear']:.2f}" for name in sets),
            _percent(ours[str(Condition(kind, middle))]["drift_share"]),
        )
    split = summary["split"]
    console.print(
        f"Balanced accuracy of a linear probe fitted on undamaged tiles, by severity; chance "
        f"{summary['chance']:.3f}. {summary['tiles']} tiles, {split['folds']} folds by {split['scheme']}, "
        f"intervals over {summary['interval']['over']}.",
        highlight=False,
        soft_wrap=True,
    )
    lines = []
    if kinds:
        console.print(table)
        lines.append(
            "kept: score under damage over clean, mean over severities"
            + (", beside the untrained encoder's and the colour histogram's" if len(sets) > 1 else "")
            + f"; drift at severity {middle}, in percent of what lies between different tiles."
        )
    if ROTATION in summary["damage"]:
        turned = summary["results"]["features"]["relative"][ROTATION]["linear"]
        quarter = ours[str(Condition(ROTATION, 90))]["drift_share"]
        lines.append(
            f"Turned by any angle: {turned:.2f} of the score is kept; drift {_percent(quarter)} at 90°."
        )
    centres = summary["results"]["features"].get("centres")
    if centres:
        if centres["robustness_index"]:
            lines.append(
                f"Robustness index over {len(centres['centres'])} centres: "
                f"{number(centres['robustness_index'])}."
            )
        if centres["left_out"]:
            lines.append(f"Each centre left out in turn: {number(centres['left_out']['linear'])}.")
        if centres["named"]:
            lines.append(
                f"The centre is told with {number(centres['named']['linear'])}, "
                f"chance {centres['named']['chance']:.3f}."
            )
        lines += centres["notes"]
    for line in (*lines, *summary["notes"], f"Curves: {result.path / 'figures'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _percent(value: Mapping[str, float | None]) -> str:
    return "–" if value["value"] is None else f"{100 * value['value']:.0f} %"
