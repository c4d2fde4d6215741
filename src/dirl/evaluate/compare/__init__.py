"""Comparison of results on the same tiles or slides, with paired differences."""
