"""Caveats of a split, in words: colour that tells the classes, clusters of stain, too few units."""

from dirl.evaluate.common.records import Leak
from dirl.evaluate.common.task import TileTask

LEAK = 0.8


def leakage(histogram: float) -> Leak:
    """Flag a split in which the nearest neighbours by colour histogram score above `LEAK`."""
    return Leak(histogram_knn=histogram, threshold=LEAK, flagged=histogram > LEAK)


def caveats(task: TileTask, unknown: int, leak: Leak | None = None) -> list[str]:
    """Return what a reader of the scores must know.

    Parameters
    ----------
    task
        What was scored.
    unknown
        Number of rows of the labels that name a missing tile or slide.
    leak
        From `leakage`; None if nobody knows whether colour alone tells the classes.
    """
    notes = []
    if task.split.scheme == "stain":
        notes.append(
            "Folds are clusters of stain within each class. Tiles of one slide may still be on both "
            "sides, so scores compare encoders and say little about new slides."
        )
    if leak and leak.flagged:
        notes.append(
            f"This split leaks: colour alone scores {leak.histogram_knn:.2f}, above {LEAK}. Its scores "
            "prove nothing. Name patients, slides or groups."
        )
    if task.units.kind == "tiles":
        why = "are unknown" if task.sources is None else "are too few to resample"
        notes.append(f"Patients and slides {why}: intervals are over tiles, and so too narrow.")
    if unknown:
        notes.append(f"Rows of the labels that name missing tiles or slides: {unknown}.")
    return notes
