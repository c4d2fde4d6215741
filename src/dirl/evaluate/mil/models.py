"""The slide models, by name."""

from collections.abc import Mapping

from dirl.evaluate.mil.abmil import ABMIL
from dirl.evaluate.mil.clam import CLAM
from dirl.evaluate.mil.dsmil import DSMIL
from dirl.evaluate.mil.slide_model import MeanPool, SlideModel
from dirl.evaluate.mil.transmil import TransMIL

MODELS: Mapping[str, type[SlideModel]] = {
    "mean": MeanPool,
    "abmil": ABMIL,
    "clam": CLAM,
    "transmil": TransMIL,
    "dsmil": DSMIL,
}
# What it adds to ABMIL needs classes.
CLASSES_ONLY = ("clam",)
