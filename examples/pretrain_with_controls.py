"""Pretrain with nuclei, without them, and with boxes in their place; then compare the attention of all three.

python examples/pretrain_with_controls.py slides/ work
One seed shows how it works, not whether it works: docs/howto/study.md repeats it over seeds.
"""

import sys
from pathlib import Path

import dirl

ARMS = {"vanilla": ["dense.weight=0"], "nuclei": [], "boxes": ["dense.control=grid"]}


def main(slides: Path, out: Path, settings: tuple[str, ...] = (), size_px: int = 128) -> None:
    """Train the arms alike, with the recipe `demo`. They differ in what ARMS says, and in nothing else."""
    store = dirl.tile([slides], out / "store", dirl.TileConfig(mpp=0.5, size_px=size_px))
    dirl.cells(store.path)
    for name, arm in ARMS.items():
        dirl.pretrain(dirl.load_recipe("demo", [*settings, *arm]), store.path, out / name)
    found = dirl.audit([str(out / name) for name in ARMS], store.path, out / "audit")
    print(found.summary.verdict.headline)
    print(out / "audit" / "report.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
