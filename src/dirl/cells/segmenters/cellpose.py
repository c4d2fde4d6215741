"""Cellpose-SAM, from its official package."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dirl.cells.base import Finder, Image
from dirl.cells.segmenters.network import Network, check_mpp, find_nuclei, on_device, require
from dirl.cells.segmenters.weights import Weights, find_weights
from dirl.core.digests import digest
from dirl.core.errors import ConfigError, first_line
from dirl.core.progress import say

MODEL = "cpsam_v2"
HOME = "huggingface.co/mouseland/cellpose-sam"
# The network splits an image into tiles of this side, with this overlap.
TILE_PX, OVERLAP = 256, 0.1


@dataclass(frozen=True)
class Cellpose:
    """Groups the pixels whose predicted flow ends in the same place (Stringer et al., 2021).

    It was trained on cells of 7.5 to 120 px, 30 on average. At 0.5 µm/px nuclei have 12 to 24 px. Pixels are
    scaled by the 1st and 99th percentile of the slide's samples; the package uses those of each image. It has
    no classes.

    Parameters
    ----------
    weights
        File of weights; by default the package's ``cpsam_v2``, downloaded on first use.
    mpp
        µm/px of the windows; finer ones are shrunk.
    device
        Device: ``auto``, ``cpu``, ``cuda``…
    batch_size
        Tiles of 256 px at a time.
    """

    weights: str | None = None
    mpp: float = 0.5
    device: str = "auto"
    batch_size: int | None = None

    package: ClassVar[str] = "cellpose"
    install: ClassVar[str] = "pip install 'dirl[cellpose]'"

    def __post_init__(self) -> None:
        """Check the package and the mpp, without loading the network."""
        require(self.package, "cellpose", self.install)
        check_mpp("cellpose", self.mpp)

    @property
    def digest(self) -> str:
        """Digest of the weights and the mpp."""
        weights = self._found.digest
        return digest({"segmenter": "cellpose", "version": 1, "mpp": self.mpp, "weights": weights})

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Load the network, and measure the range of pixel values; see `Segmenter.fit`."""
        from dirl.core.device import choose_device

        model = _load(self._found.path, str(choose_device(self.device)))
        tiles = self.batch_size or 8
        network = Network(
            mpp=self.mpp,
            predict=partial(_predict, model, scale=_scale(samples), tiles=tiles),
            separate=partial(_separate, device=model.device),
            class_names=(),
            digest=self.digest,
            device=model.device.type,
        )
        return partial(find_nuclei, network=network, mpp=mpp)

    @property
    def _found(self) -> Weights:
        return find_weights("cellpose", self.weights or str(_package_weights()), {})


def _package_weights() -> Path:
    """Return the package's weights; download them if they are missing."""
    from cellpose.models import MODEL_DIR, cache_model_path

    path = Path(MODEL_DIR) / MODEL
    if not path.is_file():
        say(f"cellpose: downloading its weights (1.2 GB) from {HOME}")
        try:
            cache_model_path(MODEL)
        except Exception as error:  # any error of the download
            raise ConfigError(
                f"cannot download {MODEL} ({first_line(error)})",
                where="segmenter 'cellpose'",
                remedy=f"download {MODEL} from {HOME} on another machine, and pass cellpose,weights=FILE",
            ) from error
    return path


@lru_cache(maxsize=1)
def _load(path: Path, device: str) -> Any:
    import torch
    from cellpose.models import CellposeModel

    try:
        # Half precision is slow on most processors.
        half = not device.startswith("cpu")
        return CellposeModel(pretrained_model=str(path), device=torch.device(device), use_bfloat16=half)
    except Exception as error:  # any error that an unknown file can cause
        raise ConfigError(
            f"does not hold weights of Cellpose 4 ({first_line(error)})",
            where=path,
            remedy=f"use {MODEL}, or weights that Cellpose 4 trained",
        ) from error


def _scale(samples: Sequence[Image]) -> list[list[float]]:
    """1st and 99th percentile of each channel."""
    if not samples:
        return [[0.0, 255.0]] * 3
    pixels = np.concatenate([sample.reshape(-1, 3)[::7] for sample in samples])
    low, high = np.percentile(pixels, (1, 99), axis=0)
    return np.stack([low, np.maximum(high, low + 1)], axis=1).tolist()  # type: ignore[no-any-return]


def _predict(
    model: Any, windows: NDArray[np.uint8], scale: list[list[float]], tiles: int
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    _, (_, flows, closeness), _ = on_device(
        lambda: model.eval(
            windows.astype(np.float32),
            batch_size=tiles,
            channel_axis=3,
            normalize={"lowhigh": scale, "norm3D": False},
            compute_masks=False,
        )
    )
    # The package drops the first axis of a single window.
    flows, closeness = flows.reshape(2, *windows.shape[:3]), closeness.reshape(windows.shape[:3])
    return [(flows[:, k], closeness[k]) for k in range(len(windows))]


def _separate(
    maps: tuple[NDArray[np.float32], NDArray[np.float32]], device: Any
) -> tuple[NDArray[np.int32], None]:
    from cellpose.dynamics import resize_and_compute_masks

    return np.asarray(resize_and_compute_masks(*maps, device=device), np.int32), None
