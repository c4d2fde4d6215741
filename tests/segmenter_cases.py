"""Segmenters by their names, in tests that run them on images."""

from typing import Any

from dirl.cells.base import Segmenter
from dirl.cells.registry import load_segmenter
from dirl.cells.source import CellSource


def load_for_images(spec: str, **how: Any) -> Segmenter:
    """The segmenter of a name that is no source of nuclei in files."""
    found = load_segmenter(spec, **how)
    assert not isinstance(found, CellSource)
    return found
