"""An H&E-like slide with known nuclei, drawn from a seed."""

from dirl.synthetic.slide import SyntheticSlide, draw, write

__all__ = ["SyntheticSlide", "draw", "write"]
