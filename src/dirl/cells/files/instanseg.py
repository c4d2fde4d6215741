"""InstanSeg's GeoJSON of nuclei and cells: both are detections, and a cell lies around its nucleus."""

from collections.abc import Sequence

PAIRS = ({"Nuclei", "Cells"}, {"Nucleus", "Cell"})


def around_nuclei(classes: Sequence[str | None]) -> list[bool]:
    """Which objects of a file are InstanSeg's cells, by the classes of all: none where it has others, too."""
    if set(classes) not in PAIRS:
        return [False] * len(classes)
    return [name in ("Cells", "Cell") for name in classes]
