"""HistomicsTK: colour deconvolution, a threshold, and blobs of a given size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dirl.cells.base import Finder, Image
from dirl.cells.segmenters.network import Network, check_mpp, find_nuclei, require
from dirl.core.digests import digest

# The package requires GDAL, although this segmenter does not need it.
INSTALL = (
    "`pip install --no-deps histomicstk girder-slicer-cli-web && "
    'pip install "large-image[openslide]" ctk-cli nimfa imageio pandas opencv-python-headless '
    "cachetools palettable shapely`"
)
# Mean and deviation of the colours, in Ruderman's Lαβ, to which its detection of nuclei normalises a slide.
MEAN_LAB = (8.63234435, -0.11501964, 0.03868433)
DEVIATION_LAB = (0.57506023, 0.10403329, 0.01364062)


@dataclass(frozen=True)
class HistomicsTK:
    """The example of the toolkit's documentation, with colours measured on the whole slide.

    The slide's colours are normalised to a reference (Reinhard et al., 2001). Pixels with more hematoxylin
    than a threshold are foreground. Nuclei are blobs of the foreground's Laplacian over several scales
    (Al-Kofahi et al., 2010). The sizes are those of the example, read as sizes at 0.25 µm/px. The toolkit's
    command has other sizes, which leave out every nucleus below 20 µm².

    Parameters
    ----------
    mpp
        µm/px of the windows; finer ones are shrunk.
    foreground_threshold
        Intensity of the hematoxylin image, 0 to 255, below which pixels are foreground.
    least_radius_um, largest_radius_um
        Range of the radii of nuclei.
    apart_um
        Least distance between the centres of two nuclei.
    least_um2
        Smallest area of a nucleus.
    """

    mpp: float = 0.5
    foreground_threshold: float = 60
    least_radius_um: float = 2.5
    largest_radius_um: float = 3.75
    apart_um: float = 2.5
    least_um2: float = 5

    package: ClassVar[str] = "histomicstk"
    install: ClassVar[str] = INSTALL

    def __post_init__(self) -> None:
        """Check that the toolkit is installed."""
        require(self.package, "histomicstk", self.install)
        check_mpp("histomicstk", self.mpp)

    @property
    def digest(self) -> str:
        """Digest of the settings."""
        return digest({"segmenter": "histomicstk", "version": 1, **asdict(self)})

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Measure the slide's colours; see `Segmenter.fit`."""
        network = Network(
            mpp=self.mpp,
            predict=list,
            separate=partial(_nuclei, settings=self, colours=_colours(samples)),
            class_names=(),
            digest=self.digest,
        )
        return partial(find_nuclei, network=network, mpp=mpp)


Colours = tuple[NDArray[np.float64], NDArray[np.float64]]


def _colours(samples: Sequence[Image]) -> Colours:
    """Mean and deviation of the samples' pixels in Ruderman's Lαβ."""
    from histomicstk.preprocessing.color_conversion import rgb_to_lab

    if not samples:
        return np.array(MEAN_LAB), np.array(DEVIATION_LAB)
    pixels = np.concatenate([rgb_to_lab(sample).reshape(-1, 3) for sample in samples])
    return pixels.mean(0), np.maximum(pixels.std(0), 1e-6)


def _nuclei(window: Image, settings: HistomicsTK, colours: Colours) -> tuple[NDArray[np.int32], None]:
    from histomicstk.preprocessing.color_deconvolution import color_deconvolution, stain_color_map
    from histomicstk.preprocessing.color_normalization import reinhard
    from histomicstk.segmentation.nuclear import detect_nuclei_kofahi

    stains = np.array([stain_color_map["hematoxylin"], stain_color_map["eosin"], [0, 0, 0]]).T
    alike = reinhard(window, MEAN_LAB, DEVIATION_LAB, src_mu=colours[0], src_sigma=colours[1])
    hematoxylin: NDArray[Any] = color_deconvolution(alike, stains).Stains[..., 0].astype(float)
    labels = detect_nuclei_kofahi(
        hematoxylin,
        hematoxylin < settings.foreground_threshold,
        settings.least_radius_um / settings.mpp,
        settings.largest_radius_um / settings.mpp,
        settings.least_um2 / settings.mpp**2,
        settings.apart_um / settings.mpp,
    )
    return np.asarray(labels, np.int32), None
