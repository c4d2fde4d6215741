"""HoVer-Net, StarDist, InstanSeg and CellViT, from cellseg-models-pytorch."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dirl.cells.base import Finder, Image
from dirl.cells.segmenters.hover import separate_by_jumps
from dirl.cells.segmenters.network import Network, check_mpp, find_nuclei, on_device, require
from dirl.cells.segmenters.weights import HubFile, Weights, find_weights
from dirl.core.digests import digest
from dirl.core.errors import ConfigError, first_line

if TYPE_CHECKING:
    import torch

HGSC = ("neoplastic", "inflammatory", "connective", "dead", "macrophage_cell", "macrophage_nuc")
# The networks halve the side of a window five times.
MULTIPLE_PX = 32
# No nucleus is wider. InstanSeg classifies a square of this side around each seed.
NUCLEUS_UM = 32.0
# StarDist's candidates have at least this score, and do not lie at the border of the window.
LEAST_SCORE = 0.4
INSIDE = (slice(2, -2), slice(2, -2))


@dataclass(frozen=True)
class Maps:
    """Output of a network for one window.

    Attributes
    ----------
    types
        Class of each pixel (h, w), 0 for background.
    separating
        Maps that separate nuclei from each other (channels, h, w); their kind depends on the network.
    foreground
        Closeness to the centre of a nucleus (h, w), 0 to 1; None if the network has no such map.
    """

    types: NDArray[np.uint8]
    separating: NDArray[np.float32]
    foreground: NDArray[np.float32] | None


@dataclass(frozen=True)
class CellsegNetwork(ABC):
    """A network of cellseg-models-pytorch; its encoder and number of classes are read from its weights.

    Pixels are scaled by the smallest and largest value of the slide's samples. The library does this for each
    window. With the values of the slide, nuclei do not depend on the other content of a window.

    Parameters
    ----------
    weights
        File that the library wrote, or ``torch.save`` of its state, or a name on the hub. By default the
        library's first name. See `dirl.cells.segmenters.weights.find_weights`.
    mpp
        µm/px at which the weights were trained; those on the hub at 0.5.
    device
        Device: ``auto``, ``cpu``, ``cuda``…
    batch_size
        Windows at a time; by default the device decides.
    """

    weights: str | None = None
    mpp: float = 0.5
    device: str = "auto"
    batch_size: int | None = None

    package: ClassVar[str] = "cellseg_models_pytorch"
    install: ClassVar[str] = "pip install 'dirl[cells]'"
    name: ClassVar[str]
    model: ClassVar[str]
    version: ClassVar[int] = 1
    hub: ClassVar[dict[str, HubFile]] = {}

    def __post_init__(self) -> None:
        """Check the package and the mpp, without loading the network."""
        require(self.package, self.name, self.install)
        check_mpp(self.name, self.mpp)

    @property
    def digest(self) -> str:
        """Digest of the network, its weights and its mpp."""
        return digest(
            {"segmenter": self.name, "version": self.version, "mpp": self.mpp, "weights": self._found.digest}
        )

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Load the network, and measure the range of pixel values; see `Segmenter.fit`."""
        from dirl.core.device import choose_device

        found, device = self._found, choose_device(self.device)
        settings = json.dumps(dict(found.settings), sort_keys=True)
        model = _load(self.name, self.model, found.path, settings, str(device))
        low = min((int(sample.min()) for sample in samples), default=0)
        high = max((int(sample.max()) for sample in samples), default=255)
        network = Network(
            mpp=self.mpp,
            predict=partial(_predict, model, low=low, high=max(high, low + 1)),
            separate=partial(self._separate, model=model),
            class_names=_class_names(model, found),
            digest=self.digest,
            batch_size=self.batch_size,
            device=device.type,
        )
        return partial(find_nuclei, network=network, mpp=mpp)

    @property
    def _found(self) -> Weights:
        return find_weights(self.name, self.weights, self.hub)

    def _separate(self, maps: Maps, model: Any) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        return np.asarray(self._nuclei(maps, model), np.int32), maps.types

    @abstractmethod
    def _nuclei(self, maps: Maps, model: Any) -> NDArray[np.int32]:
        """Label the nuclei of a window (h, w)."""


class HoVerNet(CellsegNetwork):
    """Separates nuclei where the distance from their centre jumps (Graham et al., 2019)."""

    name = "hovernet"
    model = "hovernet.HoverNet"
    version = 2
    hub: ClassVar = {
        "hgsc_v1_efficientnet_b5": HubFile(
            "csmp-hub/hovernet-histo-hgsc-nuc-v1", "hovernet_hgsc_v1_efficientnet_b5.safetensors", HGSC
        )
    }

    def _nuclei(self, maps: Maps, model: Any) -> NDArray[np.int32]:
        return separate_by_jumps(maps.types > 0, maps.separating, self.mpp)


class CellViT(CellsegNetwork):
    """Predicts HoVer-Net's maps with the vision transformer of SAM (Hörst et al., 2024)."""

    name = "cellvit"
    model = "cellvit.CellVit"
    version = 2
    hub: ClassVar = {
        "hgsc_v1_samvit_base_patch16": HubFile(
            "csmp-hub/cellvit-histo-hgsc-nuc-v1", "cellvit_hgsc_v1_efficientnet_b5.safetensors", HGSC
        )
    }

    def _nuclei(self, maps: Maps, model: Any) -> NDArray[np.int32]:
        return separate_by_jumps(maps.types > 0, maps.separating, self.mpp)


class StarDist(CellsegNetwork):
    """Predicts nuclei as star-shaped polygons around their centre (Schmidt et al., 2018)."""

    name = "stardist"
    model = "stardist.StarDist"
    hub: ClassVar = {
        "hgsc_v1_efficientnet_b5": HubFile(
            "csmp-hub/stardist-histo-hgsc-nuc-v1", "stardist_hgsc_v1_efficientnet_b5.safetensors", HGSC
        )
    }

    def _nuclei(self, maps: Maps, model: Any) -> NDArray[np.int32]:
        from cellseg_models_pytorch.postproc import POSTPROC_LOOKUP

        assert maps.foreground is not None
        foreground = maps.foreground.clip(0, 1)
        if foreground[INSIDE].max(initial=0) <= LEAST_SCORE:
            return np.zeros(foreground.shape, np.int32)
        # The library scales each window to 0..1, which amplifies noise in a window without nuclei.
        find = POSTPROC_LOOKUP["stardist"]
        return np.asarray(find(foreground, maps.separating, score_thresh=LEAST_SCORE, normalize=False))


class InstanSeg(CellsegNetwork):
    """Classifies the pixels around each seed as nucleus or not (Goldsborough et al., 2024)."""

    name = "instanseg"
    model = "instanseg.InstanSeg"

    def _nuclei(self, maps: Maps, model: Any) -> NDArray[np.int32]:
        from cellseg_models_pytorch.postproc import POSTPROC_LOOKUP

        found = POSTPROC_LOOKUP["instanseg"](
            maps.types,
            maps.separating,
            pixel_classifier=model.probability_net,
            window_size=2 * round(NUCLEUS_UM / self.mpp / 2),
            # Above its default limit of 2000 seeds it returns no nuclei at all.
            max_seeds=maps.types.size,
        )
        return np.asarray(found)


@lru_cache(maxsize=1)
def _load(name: str, model: str, path: Path, settings: str, device: str) -> Any:
    import torch

    module, family = model.split(".")
    try:
        library = getattr(import_module(f"cellseg_models_pytorch.models.{module}"), family)
        loaded = library.from_pretrained(path, torch.device("cpu"), model_kwargs=json.loads(settings))
    except Exception as error:  # any error that an unknown file can cause
        raise ConfigError(
            f"does not hold weights of a {name} network ({first_line(error)})",
            where=path,
            remedy="use a file that cellseg-models-pytorch wrote, with the network's settings next to it",
        ) from error
    return loaded.model.to(device).eval()


def _class_names(model: Any, weights: Weights) -> tuple[str, ...]:
    heads = {head: channels for branch in model.heads.values() for head, channels in branch.items()}
    count = heads["nuc_type"] - 1
    if len(weights.classes) == count:
        return weights.classes
    beside = weights.path.with_suffix(".json")
    if weights.classes and beside.is_file():
        raise ConfigError(
            f"names {len(weights.classes)} classes, but the network has {count}",
            where=beside,
            remedy="name each of them, without the background",
        )
    # A network of one class has no classes to name.
    return tuple(f"class {k + 1}" for k in range(count)) if count > 1 else ()


def _predict(model: Any, windows: NDArray[np.uint8], low: int, high: int) -> list[Maps]:
    import torch
    import torch.nn.functional as F

    device = next(model.parameters()).device
    height, width = windows.shape[1:3]
    below, right = (-side % MULTIPLE_PX for side in (height, width))

    def run() -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]":
        images = torch.from_numpy(windows).to(device).permute(0, 3, 1, 2).float()
        how = "reflect" if below < height and right < width else "replicate"
        images = F.pad((images - low) / (high - low), (0, right, 0, below), mode=how)
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            out = model(images)["nuc"]
        binary = None if out.binary_map is None else fitted(out.binary_map[:, 0])
        return fitted(out.type_map.argmax(1)), fitted(out.aux_map), binary

    def fitted(maps: "torch.Tensor") -> "torch.Tensor":
        return maps[..., :height, :width].float().cpu()

    types, separating, foreground = on_device(run)
    return [
        Maps(
            types[k].numpy().astype(np.uint8),
            separating[k].numpy(),
            None if foreground is None else foreground[k].numpy(),
        )
        for k in range(len(windows))
    ]
