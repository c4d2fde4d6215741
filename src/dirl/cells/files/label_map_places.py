"""The place of a label image on its slide: its scale and its frame."""

from pathlib import Path

from dirl.cells.source import Frame
from dirl.core.errors import ConfigError
from dirl.slides.base import SAME_MPP, Box


def place_map(
    map_px: tuple[int, int],
    size_px: tuple[int, int],
    bounds: Box,
    scale: float | None,
    frame: str,
    file: Path,
) -> tuple[float, Frame]:
    """Find the scale and the frame of a map.

    With ``auto`` the map's proportions decide: those of the slide, or those of QuPath's image of it. If both
    fit, the map has the frame in which one of its pixels is a whole number of the slide's pixels.

    Parameters
    ----------
    map_px, size_px
        Width and height of the map and of its image.
    bounds
        Box of the slide that QuPath shows.
    scale
        Pixels of the image per pixel of the map, if the user states it.
    frame
        One of `dirl.cells.files.folder_source.FRAMES`.
    file
        File, for messages.

    Returns
    -------
    float
        Pixels of the image per pixel of the map.
    Frame
        Frame of the map's corner.

    Raises
    ------
    ConfigError
        If the map covers neither, or if both frames fit it.
    """
    shown = (bounds[2], bounds[3])
    why = (
        (
            "the map has the proportions of the slide",
            f"the map has the proportions of the {shown[0]}×{shown[1]} px that QuPath shows",
        )
        if frame == "auto"
        else ("stated", "stated")
    )
    level0 = Frame("level0", (0.0, 0.0), why[0])
    qupath = Frame("qupath", (float(bounds[0]), float(bounds[1])), why[1])
    fitting = {
        one.name: (found, one)
        for one, size in ((level0, size_px), (qupath, shown))
        if frame in ("auto", one.name) and (found := _scale(map_px, size, scale)) is not None
    }
    if not fitting:
        sizes = f"{size_px[0]}×{size_px[1]} px"
        if bounds != (0, 0, *size_px):
            sizes += f", of which QuPath shows {shown[0]}×{shown[1]} px"
        at = "" if scale is None else f" at {scale:g} times its pixels"
        raise ConfigError(
            f"{map_px[0]}×{map_px[1]} px{at} do not cover the image of {sizes}",
            where=file,
            remedy="a map must cover the whole slide or tile; state its resolution with mpp= if it is known",
        )
    if len(fitting) == 1 or bounds == (0, 0, *size_px):
        return next(iter(fitting.values()))
    whole = [one for one in fitting.values() if one[0] == round(one[0])]
    if len(whole) == 1:
        return whole[0]
    raise ConfigError(
        f"{map_px[0]}×{map_px[1]} px may cover the slide of {size_px[0]}×{size_px[1]} px, or the "
        f"{shown[0]}×{shown[1]} px that QuPath shows of it",
        where=file,
        remedy="state frame=level0 for the slide, or frame=qupath",
    )


def _scale(map_px: tuple[int, int], size_px: tuple[int, int], stated: float | None) -> float | None:
    """Pixels of an image per pixel of a map; None if the map does not cover the image."""
    sizes = tuple(zip(size_px, map_px, strict=True))
    scale = size_px[0] / max(map_px[0], 1) if stated is None else stated
    whole = round(scale)
    # A map of an nth of the size may lack the last, incomplete pixel of each line.
    if stated is None and whole and all(abs(n - m * whole) < whole for n, m in sizes):
        scale = float(whole)
    fits = all(abs(n - m * scale) <= max(scale, SAME_MPP * n) for n, m in sizes)
    return scale if fits else None
