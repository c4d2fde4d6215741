"""Do an encoder's features tell classes apart better than colour does? No patient is in two folds.

python examples/probe_features.py uni cohort.csv grade work
The table has columns path, patient and the label: see docs/howto/cohort.md.
"""

import sys
from pathlib import Path

import dirl


def main(encoder: str, cohort: Path, label: str, out: Path, size_px: int = 224, folds: int = 5) -> None:
    """Embed the cohort's tiles with their baselines, and score them all on the same folds."""
    slides = dirl.SlideFiles([], dirl.TileConfig(mpp=0.5, size_px=size_px), cohort=cohort)
    dirl.embed(encoder, slides, out / "features")
    labels = f"{cohort},label={label}"
    found = dirl.probe(out / "features", labels, out / "probe", dirl.ProbeConfig(folds=folds))
    for name, scores in found.summary.results.items():
        print(f"{name}: balanced accuracy of the linear probe {scores.linear.balanced_accuracy.value:.3f}")
    print(found.summary.gate.statement)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
