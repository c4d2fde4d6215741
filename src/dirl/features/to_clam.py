"""Features for CLAM, which reads ``pt_files/SLIDE.pt``, and if asked ``h5_files/SLIDE.h5``."""

import io
from collections.abc import Mapping

import torch

from dirl.features.slide_features import Content, SlideFeatures


def clam_files(slide: SlideFeatures) -> Mapping[str, Content]:
    """Make the tensor (t, d), float32, beside the HDF5 file that `dirl embed` wrote for CLAM already."""

    def tensor() -> memoryview:
        data = io.BytesIO()
        torch.save(torch.from_numpy(slide.read()[0]), data)
        return data.getbuffer()

    return {f"pt_files/{slide.slide_id}.pt": tensor}
