"""The comparison as tables for other programs: CSV, LaTeX with booktabs, and one HTML page."""

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from dirl.core.provenance import Card
from dirl.report.html import page

PAIR_COLUMNS = ("measure", "one", "other", "difference", "low", "high", "cohens_h", "p", "p_holm")


def rows_of(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each entry, best first by the first measure: its scores, and what it is to the first entry.

    Returns
    -------
    list of dict
        ``name``, ``baseline``, and under each measure ``score`` and ``over_first`` with value, low, high.
    """
    measures = summary["measures"]
    first, leading = summary["entries"][0]["name"], next(iter(measures.values()))
    rows = []
    for entry in summary["entries"]:
        row: dict[str, Any] = {"name": entry["name"], "baseline": entry["baseline"], "measures": {}}
        for how, found in measures.items():
            row["measures"][how] = {
                "score": found["entries"][entry["name"]][summary["metric"]],
                "over_first": None if entry["name"] == first else _over(found["pairs"], entry["name"], first),
            }
        rows.append(row)
    return sorted(rows, key=lambda row: -leading["entries"][row["name"]][summary["metric"]]["value"])


def as_csv(summary: Mapping[str, Any]) -> str:
    """Every entry and measure in a row, with the digest of the split."""
    rows = [["name", "baseline", "measure", "metric", "value", "low", "high", "split"]]
    for entry in summary["entries"]:
        for how, found in summary["measures"].items():
            for metric, each in found["entries"][entry["name"]].items():
                values = (each[key] for key in ("value", "low", "high"))
                rows.append(
                    [entry["name"], entry["baseline"], how, metric, *values, summary["split"]["digest"]]
                )
    return _written(rows)


def pairs_as_csv(summary: Mapping[str, Any]) -> str:
    """Every difference of two in a row."""
    rows: list[Sequence[Any]] = [PAIR_COLUMNS]
    for how, found in summary["measures"].items():
        rows += [[how, *(pair[name] for name in PAIR_COLUMNS[1:])] for pair in found["pairs"]]
    return _written(rows)


def as_latex(summary: Mapping[str, Any]) -> str:
    """A ``tabular`` for the package booktabs: the best of each measure is bold, baselines are last."""
    measures = list(summary["measures"])
    lines = [
        f"% {summary['metric'].replace('_', ' ')} with 95 % intervals; split " + summary["split"]["digest"],
        r"\begin{tabular}{l" + "c" * len(measures) + "}",
        r"\toprule",
        " & ".join(["", *map(_tex, measures)]) + r" \\",
        r"\midrule",
    ]
    rows = rows_of(summary)
    for baselines in (False, True):
        part = [row for row in rows if row["baseline"] == baselines]
        if baselines and part:
            lines.append(r"\midrule")
        for row in part:
            cells = [_tex(row["name"])]
            for how in measures:
                text = _tex_score(row["measures"][how]["score"])
                best = summary["measures"][how]["best"] == row["name"]
                cells.append(rf"\textbf{{{text}}}" if best else text)
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def as_html(summary: Mapping[str, Any], card: Card, images: Mapping[str, tuple[str, bytes]]) -> str:
    """One page that holds everything."""
    return page(
        files("dirl.evaluate.compare") / "report.html", card, images, summary=summary, rows=rows_of(summary)
    )


def _over(pairs: Sequence[Mapping[str, Any]], name: str, first: str) -> dict[str, float | None]:
    """Difference to the first entry; a pair is kept once, the first before the other."""
    pair = next(p for p in pairs if {p["one"], p["other"]} == {name, first})
    if pair["one"] == name:
        return {"value": pair["difference"], "low": pair["low"], "high": pair["high"]}
    low, high = (None if pair[k] is None else -pair[k] for k in ("high", "low"))
    return {"value": None if pair["difference"] is None else -pair["difference"], "low": low, "high": high}


def _written(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _tex_score(value: Mapping[str, float | None]) -> str:
    if value["value"] is None:
        return "--"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} ({value['low']:.3f}--{value['high']:.3f})"
