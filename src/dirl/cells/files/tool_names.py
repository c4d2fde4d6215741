"""Which slide a tool's file is of, where the tool gives it another name than the slide's."""

from collections.abc import Iterable
from pathlib import Path

INSTANSEG = "_instanseg_prediction"
# Behind the name of a slide: of InstanSeg, StarDist, and CellViT++, whose better file is first.
ENDINGS = (INSTANSEG, "_rois", "_cells", "_cell_detection")
# Names of CellViT's files, which lie in ``SLIDE/cell_detection/``.
PLAIN = ("cells", "cell_detection")


def tool_names(files: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """Files by the slides that they are of, by the habits of InstanSeg, StarDist and CellViT.

    Of several files of a tool for one slide only the best is given: the one with contours.

    Returns
    -------
    dict
        By names without suffix; those of CellViT++ end where a slide's name has its first dot.
    """
    ranked: dict[str, list[tuple[tuple[int, bool], Path]]] = {}
    for file in files:
        for rank, name in enumerate(_names(file)):
            if name is not None:
                # Of the same nuclei, CellViT's JSON says more than its GeoJSON.
                ranked.setdefault(name, []).append(((rank, file.suffix.lower() == ".geojson"), file))
    return {
        name: tuple(file for rank, file in found if rank == min(found)[0]) for name, found in ranked.items()
    }


def _names(file: Path) -> list[str | None]:
    """Names of the slide by each habit, in order of preference; None where a file does not have it."""
    parents = file.absolute().parents
    inside = [parent.parent for parent in parents if parent.name == "cell_detection"]
    folder = (inside[0] if inside else parents[0]).name
    behind = [file.stem.removesuffix(end) if file.stem.endswith(end) else None for end in ENDINGS]
    return [*behind, *(folder if file.stem == name else None for name in PLAIN)]
