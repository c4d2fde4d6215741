"""A robustness measurement on the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dirl.robust.conditions import CLEAN, ROTATION, Condition
from dirl.robust.corruptions import CORRUPTIONS, SEVERITIES
from dirl.robust.run import RobustResult

TITLES = {"features": "features", "untrained": "untrained", "colour_histogram": "histogram"}


def show(result: RobustResult, console: Console | None = None) -> None:
    """Print by corruption what is kept of the score, how far features drift, the centres, and the notes."""
    console = console or Console()
    summary = result.summary
    ours = summary["results"]["features"]["conditions"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in ("clean", *map(str, SEVERITIES), "drift at 3"):
        table.add_column(title, justify="right")
    for title in TITLES.values():
        table.add_column(f"kept, {title}", justify="right")
    clean = ours[str(Condition(CLEAN))]["linear"]
    for kind in CORRUPTIONS:
        table.add_row(
            kind,
            _number(clean),
            *(_number(ours[str(Condition(kind, severity))]["linear"]) for severity in SEVERITIES),
            _number(ours[str(Condition(kind, 3))]["drift"]),
            *(f"{summary['results'][name]['relative'][kind]['linear']:.2f}" for name in TITLES),
        )
    split = summary["split"]
    console.print(
        f"Balanced accuracy of a linear probe fitted on undamaged tiles, by severity; chance "
        f"{summary['chance']:.3f}. {summary['tiles']} tiles, {split['folds']} folds by {split['scheme']}, "
        f"intervals over {summary['interval']['over']}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    turned = summary["results"]["features"]["relative"][ROTATION]["linear"]
    quarter = ours[str(Condition(ROTATION, 90))]["drift"]
    lines = [f"Turned by any angle: {turned:.2f} of the score is kept; drift {_number(quarter)} at 90°."]
    centres = summary["results"]["features"].get("centres")
    if centres:
        if centres["robustness_index"]:
            lines.append(
                f"Robustness index over {len(centres['centres'])} centres: "
                f"{_number(centres['robustness_index'])}."
            )
        if centres["left_out"]:
            lines.append(f"Each centre left out in turn: {_number(centres['left_out']['linear'])}.")
        if centres["named"]:
            lines.append(
                f"The centre is told with {_number(centres['named']['linear'])}, "
                f"chance {centres['named']['chance']:.3f}."
            )
        lines += centres["notes"]
    for line in (*lines, *summary["notes"], f"Curves: {result.path / 'figures'}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _number(value: Mapping[str, float | None]) -> str:
    return "–" if value["value"] is None else f"{value['value']:.3f}"
