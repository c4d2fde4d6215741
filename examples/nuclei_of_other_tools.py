"""Nuclei that CellViT or HoVer-Net found, in a store, with their classes; then a page that shows them.

python examples/nuclei_of_other_tools.py slides/ cellvit/ work
The second folder has one JSON file for each slide, of the same name.
"""

import sys
from pathlib import Path

import dirl


def main(slides: Path, results: Path, out: Path, tool: str = "cellvit-json", size_px: int = 224) -> None:
    """Cut tiles, read the nuclei under each of them, and draw both."""
    store = dirl.tile([slides], out / "store", dirl.TileConfig(mpp=0.5, size_px=size_px))
    nuclei = dirl.cells(store.path, dirl.CellsConfig(segmenter=f"{tool}:{results}", name="other"))
    for slide in sorted({*store.slide_ids.tolist()}):
        print(f"{slide}: {nuclei.nuclei(slide).num_rows} nuclei")
    dirl.cells_report(store.path, out / "report", cells=["other"])
    print(out / "report" / "report.html")  # first see whether the outlines lie on nuclei


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
