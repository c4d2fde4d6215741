"""`dirl compare`: finished results in one table, with paired differences."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dirl.core.card import new_card
from dirl.core.errors import ConfigError
from dirl.core.files import replacing
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.evaluate.common.records import Resampling
from dirl.evaluate.compare.entries import Comparable, read_entries
from dirl.evaluate.compare.figure import ranking
from dirl.evaluate.compare.statistics import compare_all, measures_of, metrics_of
from dirl.evaluate.compare.summary import CompareSummary, EntryName, SharedSplit
from dirl.evaluate.compare.tables import as_csv, as_html, as_latex, pairs_as_csv
from dirl.report.style import encode

RESAMPLES = 1000


def compare(
    results: Sequence[Path], out: Path, *, seed: int = 0, overwrite: bool = False
) -> Result[CompareSummary]:
    """Compare results that were scored on the same split.

    Parameters
    ----------
    results
        Directories that `dirl probe`, `dirl finetune` or `dirl mil` made. The others are compared with the
        first.
    out
        Directory of the comparison: ``table.csv``, ``table.tex``, ``table.html``, ``pairs.csv``, ``figures``,
        ``summary.json``, ``card.json``.
    seed
        Seed of the bootstrap.
    overwrite
        Replace another comparison.

    Raises
    ------
    ConfigError
        If the results do not fit in one table; see `read_entries`.
    StoreError
        If one is unfinished or damaged, or `out` holds something else.
    """
    compared = read_entries(results)
    if not measures_of(compared):
        raise ConfigError("the results have no measure in common", where="RESULT", remedy="score them alike")
    settings = {"results": [str(path) for path in results], "seed": seed, "resamples": RESAMPLES}
    card = new_card("compare", settings, compared.digests)

    def compute(work: Work) -> CompareSummary:
        summary = _summary(compared, seed)
        pictures = {
            f"{how}.{kind}": encode(ranking(summary, how), kind, 130)
            for how in summary.measures
            for kind in ("png", "svg")
        }
        images = {how: ("svg", pictures[f"{how}.svg"]) for how in summary.measures}
        files = {f"figures/{name}": data for name, data in pictures.items()} | {
            "table.csv": as_csv(summary).encode(),
            "pairs.csv": pairs_as_csv(summary).encode(),
            "table.tex": as_latex(summary).encode(),
            "table.html": as_html(summary, work.card, images).encode(),
        }
        for name, data in files.items():
            with replacing(work.out / name) as temporary:
                temporary.write_bytes(data)
        return summary

    return carry_out(card, out, CompareSummary, compute, overwrite=overwrite)


def _summary(compared: Comparable, seed: int) -> CompareSummary:
    return CompareSummary(
        of=compared.kind,
        entries=[EntryName(name=entry.name, baseline=entry.baseline) for entry in compared.entries],
        items=len(compared.ids),
        metric=metrics_of(compared)[0],
        chance=0.5 if compared.survival else 1 / len(np.unique(compared.truth)),
        split=SharedSplit(scheme=compared.scheme, digest=compared.split),
        interval=Resampling(
            level=0.95, resamples=RESAMPLES, over=compared.over, units=len(np.unique(compared.units))
        ),
        measures={how: compare_all(compared, how, RESAMPLES, seed) for how in measures_of(compared)},
    )
