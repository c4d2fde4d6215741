"""Routes of the viewer: each path of a request, and the function that answers it."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from dirl.viewer.overlays import PALETTES, colour, to_png
from dirl.viewer.scene import Scene

MAX_TOKENS = 512  # largest side of the piece of a map for one tile

Answer = tuple[str, bytes]
"""Content type and body."""

Query = Mapping[str, Sequence[str]]


def respond(scene: Scene, path: str, query: Query) -> Answer | None:
    """Answer a path; None if there is no such path.

    A number or a name that does not exist raises a `ValueError`, `IndexError` or `KeyError`.
    """
    for pattern, answer in ROUTES:
        found = re.fullmatch(pattern, path)
        if found:
            return answer(scene, query, *found.groups())
    return None


def _slide_tile(scene: Scene, query: Query, *numbers: str) -> Answer | None:
    jpeg = scene.slide_tile(*map(int, numbers))
    return None if jpeg is None else ("image/jpeg", jpeg)


def _tissue(scene: Scene, query: Query, entry: str) -> Answer | None:
    png = scene.tissue(int(entry))
    return None if png is None else ("image/png", png)


def _nuclei(scene: Scene, query: Query, entry: str, cells: str, tile: str) -> Answer:
    names = list(scene.cells)
    return _json(scene.nuclei(int(entry), names[int(cells)], int(tile)))


def _values(scene: Scene, query: Query, entry: str, encoder: str, block: str, head: str) -> Answer | None:
    audit, (name,) = scene.audit, query["measure"]
    if audit is None or name not in audit.columns or name in {"encoder", "tile_id", "slide_id"}:
        return None
    values = scene.values(int(entry), int(encoder), int(block), int(head), name)
    return _json([float(f"{value:.5g}") if isfinite(value) else None for value in values.tolist()])


def _tile(scene: Scene, query: Query, tile: str) -> Answer | None:
    return None if scene.store is None else _json(scene.describe_tile(int(tile)))


def _tile_image(scene: Scene, query: Query, tile: str) -> Answer | None:
    return None if scene.store is None else ("image/jpeg", scene.store.jpeg(int(tile)))


def _map_tile(scene: Scene, query: Query, *numbers: str) -> Answer | None:
    which, channel, level, column, row = map(int, numbers)
    colours, span = _colours(query)
    pixels = scene.maps[which].deep_zoom_tile(channel, level, column, row, colours, span)
    return None if pixels is None else ("image/png", to_png(pixels))


def _map_piece(scene: Scene, query: Query, which: str, channel: str) -> Answer | None:
    """Tokens in a box of the slide, as one pixel each."""
    held = scene.maps[int(which)]
    if int(channel) >= len(held.channels):
        return None
    dx, dy = held.offset_px
    x, y, side = (
        (_number(query, name) - start) / held.token_px
        for name, start in (("x", dx), ("y", dy), ("side", 0.0))
    )
    left, top, tokens = round(x), round(y), max(1, round(side))
    if tokens > MAX_TOKENS or max(abs(left), abs(top)) > 2**31:
        return None
    colours, span = _colours(query)
    values = held.read(int(channel), left, top, tokens, tokens)
    return "image/png", to_png(colour(values, colours, *span))


def _map_regions(scene: Scene, query: Query, which: str) -> Answer:
    return _json(scene.maps[int(which)].regions)


def _in_turn(answer: Callable[..., Answer | None]) -> Callable[..., Answer | None]:
    """Limit the answers that are computed at the same time to the number of cores.

    Python runs one thread at a time. A thread that reads or decodes releases the GIL. With many threads it
    waits long to get it back, and the longest answers would take seconds.
    """

    def wait(scene: Scene, query: Query, *parts: str) -> Answer | None:
        with scene.turns:
            return answer(scene, query, *parts)

    return wait


ROUTES: tuple[tuple[str, Callable[..., Answer | None]], ...] = (
    (r"/api/scene", lambda scene, query: _json(scene.describe())),
    (r"/api/entries/(\d{1,9})", lambda scene, query, entry: _json(scene.describe_entry(int(entry)))),
    (r"/api/entries/(\d{1,9})/tissue\.png", _tissue),
    (r"/api/entries/(\d{1,9})/(\d{1,2})/(\d{1,9})_(\d{1,9})\.jpg", _in_turn(_slide_tile)),
    (r"/api/entries/(\d{1,9})/nuclei/(\d{1,9})/(\d{1,9})", _in_turn(_nuclei)),
    (r"/api/entries/(\d{1,9})/measures/(\d{1,9})/(\d{1,4})/(-[12]|\d{1,4})", _in_turn(_values)),
    (r"/api/tiles/(\d{1,9})", _in_turn(_tile)),
    (r"/api/tiles/(\d{1,9})\.jpg", _tile_image),
    (r"/api/maps/(\d{1,9})/(\d{1,4})/(\d{1,2})/(\d{1,9})_(\d{1,9})\.png", _in_turn(_map_tile)),
    (r"/api/maps/(\d{1,9})/(\d{1,4})/piece\.png", _in_turn(_map_piece)),
    (r"/api/maps/(\d{1,9})/regions", _map_regions),
)


def _colours(query: Query) -> tuple[str, tuple[float, float]]:
    (name,) = query["colours"]
    if name not in PALETTES:
        raise KeyError(name)
    return name, (_number(query, "from"), _number(query, "to"))


def _number(query: Query, name: str) -> float:
    (text,) = query[name]
    value = float(text)
    if not isfinite(value):
        raise ValueError(text)
    return value


def _json(value: Any) -> Answer:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "application/json; charset=utf-8", text.encode()
