"""`dirl compare`: finished results in one table, with paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dirl.core.checked import read_summary
from dirl.core.errors import ConfigError
from dirl.core.files import replacing, write_json
from dirl.core.owner import owning
from dirl.core.provenance import claim, finish, new_card
from dirl.evaluate.compare.entries import read_entries
from dirl.evaluate.compare.figure import ranking
from dirl.evaluate.compare.statistics import compare_all, measures_of, metrics_of
from dirl.evaluate.compare.tables import as_csv, as_html, as_latex, pairs_as_csv
from dirl.report.style import encode

RESAMPLES = 1000


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes
    ----------
    path
        Its directory: ``table.csv``, ``table.tex``, ``table.html``, ``pairs.csv``, ``figures``,
        ``summary.json``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]


@owning
def compare(results: Sequence[Path], out: Path, *, seed: int = 0, overwrite: bool = False) -> Comparison:
    """Compare results that were scored on the same split.

    Parameters
    ----------
    results
        Directories that `dirl probe`, `dirl finetune` or `dirl mil` made; others are compared with the
        first.
    out
        Directory of the comparison.
    seed
        Of the bootstrap.
    overwrite
        Replace another comparison.

    Raises
    ------
    ConfigError
        If the results cannot stand in one table; see `read_entries`.
    StoreError
        If one is unfinished or damaged, or `out` holds something else.
    """
    compared = read_entries(results)
    measures = measures_of(compared)
    if not measures:
        raise ConfigError("the results have no measure in common", where="RESULT", remedy="score them alike")
    settings = {"results": [str(path) for path in results], "seed": seed, "resamples": RESAMPLES}
    card = claim(out, new_card("compare", settings, compared.digests), overwrite=overwrite)
    if card.finished:
        return Comparison(out, read_summary(out))
    summary: dict[str, Any] = {
        "of": compared.kind,
        "entries": [{"name": entry.name, "baseline": entry.baseline} for entry in compared.entries],
        "items": len(compared.ids),
        "metric": metrics_of(compared)[0],
        "chance": 0.5 if compared.survival else 1 / len(np.unique(compared.truth)),
        "split": {"scheme": compared.scheme, "digest": compared.split},
        "interval": {
            "level": 0.95,
            "resamples": RESAMPLES,
            "over": compared.over,
            "units": len(np.unique(compared.units)),
        },
        "measures": {how: compare_all(compared, how, RESAMPLES, seed) for how in measures},
    }
    figures = {
        f"{how}.{kind}": encode(ranking(summary, how), kind, 130)
        for how in measures
        for kind in ("png", "svg")
    }
    images = {how: ("svg", figures[f"{how}.svg"]) for how in measures}
    files = {f"figures/{name}": data for name, data in figures.items()} | {
        "table.csv": as_csv(summary).encode(),
        "pairs.csv": pairs_as_csv(summary).encode(),
        "table.tex": as_latex(summary).encode(),
        "table.html": as_html(summary, card, images).encode(),
    }
    for name, data in files.items():
        with replacing(out / name) as temporary:
            temporary.write_bytes(data)
    write_json(out / "summary.json", summary)
    finish(out, card, {"entries": len(compared.entries), "items": len(compared.ids)})
    return Comparison(out, read_summary(out))
