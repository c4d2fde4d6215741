"""Checks of the options that several sources have: their place, resolution and frame."""

from pathlib import Path

from dirl.core.errors import ConfigError

FRAMES = ("auto", "qupath", "level0")


def check_place(argument: str) -> Path:
    """Return the folder or file that an argument names.

    Raises
    ------
    ConfigError
        If it does not exist.
    """
    place = Path(argument).expanduser()
    if not place.exists():
        raise ConfigError("no such file or folder", where=place, remedy="check the path")
    return place


def check_mpp(mpp: object, spec: str) -> None:
    """Check that the resolution stated for `spec` is a positive number, or None.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if mpp is not None and not (isinstance(mpp, int | float) and mpp > 0):
        raise ConfigError(f"mpp {mpp!r} is not a number above 0", where=spec, remedy="such as mpp=0.25")


def check_frame(frame: object, spec: str) -> None:
    """Check that the frame stated for `spec` is one of `FRAMES`.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if frame not in FRAMES:
        remedy = f"choose {', '.join(FRAMES[:-1])} or {FRAMES[-1]}"
        raise ConfigError("there is no such frame", where=f"segmenter {spec},frame={frame}", remedy=remedy)
