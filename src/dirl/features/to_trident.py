"""Features for TRIDENT, with the output of `dirl embed` as its ``job_dir``.

TRIDENT reads ``MAGx_SIZEpx_OVERLAPpx_overlap/features_ENCODER/SLIDE.h5``, and the places of tiles from
``patches/SLIDE_patches.h5`` beside. It has nominal magnifications such as 40. Those of dirl are exact,
10 / mpp, so that a tile's side at level 0 comes out right.
"""

from collections.abc import Mapping
from typing import Any

from dirl.features.feature_files import pack_hdf5
from dirl.features.slide_features import Content, SlideFeatures

ENCODERS = {
    "uni": "uni_v1",
    "uni2-h": "uni_v2",
    "prov-gigapath": "gigapath",
    "h-optimus-0": "hoptimus0",
    "h-optimus-1": "hoptimus1",
    "phikon-v2": "phikon_v2",
}
"""TRIDENT's names of encoders of `dirl encoders` where the names differ and the features are the same."""

PLACES = (
    "name",
    "patch_size",
    "patch_size_level0",
    "level0_magnification",
    "target_magnification",
    "overlap",
    "level0_width",
    "level0_height",
)


def trident_files(slide: SlideFeatures) -> Mapping[str, Content]:
    """Make ``features`` (t, d), float32, and ``coords`` (t, 2), int64, top-left corners in level-0 pixels."""
    of = {name: _whole(slide.attributes[name]) for name in PLACES}
    folder = f"{of['target_magnification']:g}x_{of['patch_size']}px_{of['overlap']}px_overlap"
    features = f"{folder}/features_{slide.encoder}"

    def places() -> memoryview:
        return pack_hdf5({"coords": slide.read()[1]}, {"coords": {**of, "savetodir": folder}})

    def rows() -> memoryview:
        values, coords = slide.read()
        described = {"name": slide.slide_id, "savetodir": features, "encoder": slide.encoder}
        return pack_hdf5(
            {"features": values, "coords": coords},
            {"features": described, "coords": {**of, "savetodir": folder}},
        )

    return {
        f"{folder}/patches/{slide.slide_id}_patches.h5": places,
        f"{features}/{slide.slide_id}.h5": rows,
    }


def _whole(value: Any) -> Any:
    """A whole number of any type as an integer, as TRIDENT writes magnifications."""
    return value if isinstance(value, str) or value != int(value) else int(value)
