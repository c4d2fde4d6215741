"""A Leica slide that states where its scan lies: what QuPath crops to."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

VIEW = """<image name="{name}" uuid="u"><creationDate>2020-01-01T00:00:00Z</creationDate>
<device model="m" version="1"/><pixels sizeX="{w}" sizeY="{h}"><dimension sizeX="{w}" sizeY="{h}" r="0"
ifd="{page}"/></pixels><view sizeX="{wide}" sizeY="{high}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>
<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>"""
NM = 500  # of a pixel: 0.5 µm/px


def write_scn(path: Path, rgb: NDArray[np.uint8], size_px: tuple[int, int], corner: tuple[int, int]) -> Path:
    """Write a slide of `size_px` whose scan `rgb` lies at `corner`, at 0.5 µm/px."""
    width, height = (NM * side for side in size_px)
    h, w = rgb.shape[:2]
    views = [
        VIEW.format(name="macro", w=256, h=256, page=0, wide=width, high=height, x=0, y=0),
        VIEW.format(
            name="main", w=w, h=h, page=1, wide=NM * w, high=NM * h, x=NM * corner[0], y=NM * corner[1]
        ),
    ]
    scn = "http://www.leica-microsystems.com/scn/2010/10/01"
    about = (
        f'<?xml version="1.0"?><scn xmlns="{scn}" uuid="u"><collection name="c" uuid="u" sizeX="{width}" '
        f'sizeY="{height}"><barcode>x</barcode>{"".join(views)}</collection></scn>'
    )
    how: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib", "metadata": None}
    how |= {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(np.full((256, 256, 3), 240, np.uint8), description=about, **how)
        tiff.write(rgb, **how)
    return path
