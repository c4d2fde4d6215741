"""DICOM slides: their files, their series, and a wrong colour tag that OpenSlide believes."""

import mmap
from pathlib import Path

import openslide

from dirl.core.boundary import parsing
from dirl.core.errors import DirlError, SlideError
from dirl.slides.tiff import UNREADABLE

HEADER_BYTES = 16_384
PHOTOMETRIC = b"\x28\x00\x04\x00CS"  # tag (0028,0004) with its type; two bytes of length follow
PIXELS = b"\xe0\x7f\x10\x00"  # tag (7FE0,0010)
JPEG_START = b"\xff\xd8\xff"


def first_dicom(folder: Path) -> Path:
    """First DICOM file of a folder, or the folder itself if it has none."""
    return min(folder.glob("*.dcm"), default=folder)


def series_of(file: Path) -> str | None:
    """UID of the series of a DICOM file, or None if OpenSlide cannot read the file."""
    try:
        with (
            parsing(file, remedy=UNREADABLE, kind=SlideError, what="cannot be read"),
            openslide.OpenSlide(file) as slide,
        ):
            return str(slide.properties.get("dicom.SeriesInstanceUID", file))
    except DirlError:
        return None


def is_mislabelled(file: Path) -> bool:
    """Whether the header of a DICOM slide says RGB while its JPEG frames are YCbCr.

    Some converters write such files. OpenSlide believes the header and returns Y, Cb and Cr as red, green and
    blue. A JFIF marker in the frame proves YCbCr, since JFIF allows no other colour space. If `file` is the
    label or the overview of the series, a file of the slide itself is read.
    """
    for candidate in (file, *sorted(file.parent.glob("*.dcm"))):
        with candidate.open("rb") as handle:
            header = handle.read(HEADER_BYTES)
            if header[128:132] != b"DICM" or b"VOLUME" not in header:
                continue
            tag = header.find(PHOTOMETRIC)
            if tag < 0 or header[tag + 8 : tag + 12].strip(b" \0") != b"RGB":
                return False
            with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                frame = data.find(JPEG_START, data.find(PIXELS, tag))
                return frame >= 0 and data[frame + 6 : frame + 10] == b"JFIF"
    return False
