"""The comparison as tables for other programs: CSV, LaTeX with booktabs, and one HTML page."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from dirl.core.card import Card
from dirl.core.intervals import Estimate
from dirl.evaluate.common.scores import measure_title
from dirl.evaluate.compare.summary import CompareSummary
from dirl.report.html import page

PAIR_COLUMNS = ("measure", "one", "other", "difference", "low", "high", "cohens_h", "p", "p_holm")


@dataclass(frozen=True)
class Cell:
    """An entry's score by one measure, and its difference to the first entry."""

    score: Estimate
    over_first: Estimate | None


@dataclass(frozen=True)
class TableRow:
    """An entry with its cells by measure."""

    name: str
    baseline: bool
    measures: Mapping[str, Cell]


def rows_of(summary: CompareSummary) -> list[TableRow]:
    """Return one row for each entry, best first by the first measure."""
    first, leading = summary.entries[0].name, next(iter(summary.measures))
    rows = []
    for entry in summary.entries:
        cells = {}
        for how, found in summary.measures.items():
            pair = found.pair(entry.name, first)
            cells[how] = Cell(summary.estimate(how, entry.name), pair.minus(first) if pair else None)
        rows.append(TableRow(entry.name, entry.baseline, cells))
    return sorted(rows, key=lambda row: -(row.measures[leading].score.value or 0))


def as_csv(summary: CompareSummary) -> str:
    """Return every entry, measure and metric in a row, with the digest of the split."""
    columns = ("name", "baseline", "measure", "metric", "value", "low", "high")
    rows = [[*(row[name] for name in columns), summary.split.digest] for row in summary.rows()]
    return _written([[*columns, "split"], *rows])


def pairs_as_csv(summary: CompareSummary) -> str:
    """Return every difference of two entries in a row."""
    rows = [
        [how, *(getattr(pair, name) for name in PAIR_COLUMNS[1:])]
        for how, found in summary.measures.items()
        for pair in found.pairs
    ]
    return _written([PAIR_COLUMNS, *rows])


def as_latex(summary: CompareSummary) -> str:
    """A ``tabular`` for the package booktabs: the best of each measure is bold, baselines are last."""
    measures = list(summary.measures)
    lines = [
        f"% {summary.metric.replace('_', ' ')} with 95 % intervals; split {summary.split.digest}",
        r"\begin{tabular}{l" + "c" * len(measures) + "}",
        r"\toprule",
        " & ".join(["", *map(_tex, map(measure_title, measures))]) + r" \\",
        r"\midrule",
    ]
    rows = rows_of(summary)
    for baselines in (False, True):
        part = [row for row in rows if row.baseline == baselines]
        if baselines and part:
            lines.append(r"\midrule")
        for row in part:
            cells = [_tex(row.name)]
            for how in measures:
                text = _tex_score(row.measures[how].score)
                best = summary.measures[how].best == row.name
                cells.append(rf"\textbf{{{text}}}" if best else text)
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def as_html(summary: CompareSummary, card: Card, images: Mapping[str, tuple[str, bytes]]) -> str:
    """One page that holds everything."""
    template = files("dirl.evaluate.compare") / "report.html"
    return page(template, card, images, summary=summary, rows=rows_of(summary), title=measure_title)


def _written(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _tex_score(estimate: Estimate) -> str:
    return estimate.text(".3f").replace("–", "--")
