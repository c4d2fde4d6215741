"""The slide models, by name."""

from collections.abc import Mapping

from torch import nn

from dirl.mil.abmil import ABMIL
from dirl.mil.clam import CLAM
from dirl.mil.dsmil import DSMIL
from dirl.mil.mean import MeanPool
from dirl.mil.transmil import TransMIL

MODELS: Mapping[str, type[nn.Module]] = {
    "mean": MeanPool,
    "abmil": ABMIL,
    "clam": CLAM,
    "transmil": TransMIL,
    "dsmil": DSMIL,
}
# What it adds to ABMIL needs classes.
CLASSES_ONLY = ("clam",)
