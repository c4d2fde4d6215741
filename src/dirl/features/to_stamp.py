"""Features for STAMP, which reads ``stamp/ENCODER/SLIDE.h5`` with that folder as its ``feature_dir``.

The layout is that of STAMP 2.1 and newer. A STAMP older than ``stamp_version`` refuses the file.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError
from dirl.features.feature_files import Floats, pack_hdf5
from dirl.features.slide_features import Content, SlideFeatures

VERSION = "2.1.0"
ENCODERS = {
    "uni2-h": "uni2",
    "virchow": "virchow-full",
    "virchow2": "virchow2-full",  # STAMP's virchow2 is the class token alone
    "prov-gigapath": "gigapath",
}
"""STAMP's names of encoders of `dirl encoders` where the names or the features differ."""


def stamp_files(slide: SlideFeatures) -> Mapping[str, Content]:
    """Make ``feats`` (t, d), float16, and ``coords`` (t, 2), float32, top-left corners in µm."""
    of = slide.attributes
    described = {
        "stamp_version": VERSION,
        "extractor": slide.encoder,
        "unit": "um",
        "tile_size_um": float(of["patch_size"] * of["target_mpp"]),
        "tile_size_px": int(of["patch_size"]),
        "feat_type": "tile",
    }

    def rows() -> memoryview:
        values, coords = slide.read()
        arrays = {
            "feats": _half(values, slide.slide_id),
            "coords": (coords * of["level0_mpp"]).astype(np.float32),
        }
        return pack_hdf5(arrays, {"/": described})

    return {f"stamp/{slide.encoder}/{slide.slide_id}.h5": rows}


def _half(values: Floats, slide: str) -> NDArray[np.float16]:
    """Features as STAMP stores them. A `ConfigError` tells that some are too large."""
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        reason = f"features of {slide} are too large for STAMP's float16"
        raise ConfigError(reason, where="--to stamp", remedy="use --to trident, which keeps float32")
    return values.astype(np.float16)
