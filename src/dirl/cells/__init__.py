"""Nuclei of a store's tiles: found by a segmenter, or read from files. `dirl.cells(...)` runs it."""

from dirl.core.callable_module import make_callable

make_callable(__name__, "dirl.cells.run:cells")
