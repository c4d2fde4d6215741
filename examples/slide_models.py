"""Slide models (ABMIL and mean pooling) on features, by nested cross-validation, beside baselines.

python examples/slide_models.py uni cohort.csv grade work
"""

import sys
from pathlib import Path

import dirl


def main(encoder: str, cohort: Path, label: str, out: Path, size_px: int = 224, folds: int = 5) -> None:
    """Embed the cohort's slides, and let each slide be classified by models that never saw its patient."""
    slides = dirl.SlideFiles([], dirl.TileConfig(mpp=0.5, size_px=size_px), cohort=cohort)
    dirl.embed(encoder, slides, out / "features")
    config = dirl.MilConfig(models=("mean", "abmil"), folds=folds, inner_folds=2)
    found = dirl.mil(out / "features", f"{cohort},label={label}", out / "mil", config)
    print(found)
    for row in found.summary.rows():
        print(row)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
