"""The study's one table: as CSV, as Markdown, and on the terminal."""

import csv
import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from dirl.core.intervals import Estimate
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.report.html import format_number, format_signed
from dirl.study.measures import COMPARED, PRIMARY, TITLES
from dirl.study.summary import ArmContrast, MeanSd, Paired, StudySummary
from dirl.study.verdict import sentences

COUNTS = ("objective", "arm", "kind", "runs", "failed", "label_free_gate_passed", "gate_passed")
ON_TERMINAL = ("gini", "components50", "knn", "linear")  # besides the primary measure


def arms_csv(summary: StudySummary) -> str:
    """Write the arms as CSV, with mean and sd of every measure; empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{name}_{what}" for name in TITLES for what in ("mean", "sd")]
    writer.writerow([*COUNTS, *ends])
    for one in summary.arms:
        values = [end for value in one.measures.values() for end in (value.mean, value.sd)]
        writer.writerow(
            [*(getattr(one, key) for key in COUNTS), *("" if v is None else f"{v:.6g}" for v in values)]
        )
    return out.getvalue()


def study_markdown(summary: StudySummary) -> str:
    """Write arms, planned contrasts, exploratory ones and failures as Markdown."""
    shown = [name for name in TITLES if any(one.measures[name].n for one in summary.arms)]
    compared = [name for name in COMPARED if name in shown]
    seeds = ", ".join(map(str, summary.seeds))
    lines = [
        "# Study",
        "",
        f"{len(summary.runs)} runs, seeds {seeds}. Mean ± standard deviation over seeds. Attention is the "
        "last block's joint map, the average of its heads, unless the column says otherwise. The gate counts "
        "the runs that learned something. Uniform attention scores perfectly on every measure of spread, and "
        "means nothing.",
        "",
        *_lines(
            ["objective", "arm", "runs", "gate", *(TITLES[name] for name in shown)],
            (
                [one.objective, one.arm, str(one.runs), f"{one.gate_passed}/{one.runs}"]
                + [_mean_sd_text(one.measures[name]) for name in shown]
                for one in summary.arms
            ),
        ),
    ]
    if planned := summary.planned:
        lines += [
            "",
            "## Planned contrasts",
            "",
            "Named before the study ran. Paired over seeds; 95 % t-intervals; Holm's correction over all of "
            f"them, for the primary measures: {', '.join(TITLES[name] for name in summary.primary)}. "
            f"The p in this table is that of {TITLES[PRIMARY]}. The other measures are exploratory, and have "
            "no p. If a run fails the gate, the difference over the other seeds is given, too: a difference "
            "is shown only if both are significant.",
            "",
            *_lines(_contrast_head(compared), (_contrast_cells(one, compared) for one in planned)),
            "",
            *(f"- {sentence}" for sentence in sentences(summary)),
            *_tests(summary),
        ]
    if others := [one for one in summary.contrasts if not one.planned]:
        lines += ["", "## Exploratory differences", "", "Not planned: no test, and so no p.", ""]
        lines += _lines(_contrast_head(compared), (_contrast_cells(one, compared) for one in others))
    if summary.notes:
        lines += ["", "## Notes of the probe", "", *(f"- {note}" for note in summary.notes)]
    if summary.failed:
        lines += ["", "## Failed", "", *(f"- {run}: {why}" for run, why in summary.failed.items())]
    return "\n".join(lines) + "\n"


def print_study(result: Result[StudySummary], console: Console | None = None) -> None:
    """Print a line per objective and arm, a sentence per planned contrast, and the table's path."""
    console, summary = console or printer(), result.summary
    shown = [name for name in ON_TERMINAL if any(one.measures[name].n for one in summary.arms)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("objective", "arm"):
        table.add_column(title, no_wrap=True)
    table.add_column("gate", justify="right")
    table.add_column(TITLES[PRIMARY], justify="right", no_wrap=True)
    for title in (*(TITLES[name] for name in shown), TITLES["enrichment_nuclei"]):
        table.add_column(title, justify="right")
    for one in summary.arms:
        table.add_row(
            one.objective,
            one.arm,
            f"{one.gate_passed}/{one.runs}",
            _mean_sd_text(one.measures[PRIMARY]),
            *(format_number(one.measures[name].mean) for name in shown),
            format_signed(one.measures["enrichment_nuclei"].mean),
        )
    console.print(table)
    for sentence in sentences(summary):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"Table: {result.path / 'table.md'}", markup=False, highlight=False, soft_wrap=True)


def _mean_sd_text(value: MeanSd) -> str:
    """Mean ± sd, or the mean alone with a single seed."""
    text = format_number(value.mean) + ("" if value.sd is None else f" ± {format_number(value.sd)}")
    return text.replace("-", "−")


def _contrast_cells(contrast: ArmContrast, compared: Sequence[str]) -> list[str]:
    """Cells of a contrast's line. Measures of a planned one have their intervals."""
    p = contrast.primary.p_holm
    return [
        contrast.objective,
        f"{contrast.arm} − {contrast.against}",
        str(contrast.primary.seeds),
        contrast.standing,
        _p(p),
        _passing(contrast),
        *(_difference(contrast.measures[name], interval=contrast.planned) for name in compared),
    ]


def _tests(summary: StudySummary) -> list[str]:
    """All tests of the planned contrasts: primary measures, intervals over units, and tests of no loss."""
    planned = summary.planned
    names = dict.fromkeys(
        [*summary.primary, *(name for one in planned for name in (*one.over_units, *one.no_loss))]
    )
    if len(names) == 1 and not any(one.over_units for one in planned):
        return []
    cells = [
        [
            one.objective,
            f"{one.arm} − {one.against}",
            TITLES[name],
            _difference(one.measures[name], interval=True),
            _p(one.measures[name].p_holm),
            "–" if name not in one.over_units else _estimate(one.over_units[name]),
            "–" if name not in one.no_loss else one.no_loss[name].stated,
            _p(one.no_loss[name].p_holm if name in one.no_loss else None),
        ]
        for one in planned
        for name in names
    ]
    head = [
        "objective",
        "contrast",
        "measure",
        "over seeds",
        "Holm's p",
        "over seeds and units",
        "margin",
        "Holm's p of a loss",
    ]
    text = (
        "*Over seeds and units*: resamples draw seeds, and the tiles or slides that all runs share. "
        "A *margin* is the fall that would matter. Its p is one-sided, and excludes such a fall below .025."
    )
    return ["", text, "", *_lines(head, cells)]


def _p(p: float | None) -> str:
    return "–" if p is None else f"{p:.3f}"


def _estimate(found: Estimate) -> str:
    difference, low, high = map(format_signed, (found.value, found.low, found.high))
    return f"{difference} ({low} to {high})"


def _passing(contrast: ArmContrast) -> str:
    """If runs fail the gate: the number of other seeds, and the difference over these."""
    if not contrast.passing:
        return "all"
    measured = contrast.passing[PRIMARY]
    return f"{measured.seeds}: {_difference(measured, interval=contrast.planned)}"


def _difference(measured: Paired, *, interval: bool) -> str:
    if not interval or measured.low is None:
        return format_signed(measured.difference)
    difference, low, high = map(format_signed, (measured.difference, measured.low, measured.high))
    return f"{difference} ({low} to {high})"


def _contrast_head(compared: Sequence[str]) -> list[str]:
    return [
        "objective",
        "contrast",
        "seeds",
        "standing",
        "Holm's p",
        "pass the gate",
        *(TITLES[name] for name in compared),
    ]


def _lines(head: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join('---' for _ in head)}|",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
