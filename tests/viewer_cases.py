"""What the viewer's tests share: a map as `dirl map` writes it, a server in a thread, and questions to it."""

import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import tifffile

from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.files import replacing, write_json
from dirl.viewer.run import open_viewer

TOKEN_PX = 8.0  # of the maps, in level-0 pixels
HEADS = 2
NAMES = ["mean of heads", "head 0", "head 1"]
TILES = {
    "count": 1, "size_px": 64, "mpp": 0.5, "level0_px": 64.0, "tokens": 8, "stride_tokens": 4, "overlap": 0.5,
    "min_tissue": 0.0,
}  # fmt: skip
RANGE = {"min": 0.0, "median": 1.0, "mean": 1.0, "max": 2.0}


def write_map(folder, name, values, slide_id="slide", slide_px=(512, 512), block=1, offset_px=(0, 0)):
    """Write what `dirl map` leaves, of values of shape (c, h, w)."""
    card = claim(folder, new_card("map", {"name": name}))
    levels = [values, values[:, ::2, ::2]]
    image = folder / "attention.ome.tif"
    with replacing(image) as part, tifffile.TiffWriter(part, bigtiff=True, ome=True) as tiff:
        for number, level in enumerate(levels):
            first = {"subifds": 1, "metadata": {"axes": "CYX"}}
            more = {"subfiletype": 1, "metadata": None} if number else first
            tiff.write(level, photometric="minisblack", tile=(32, 32), compression="zlib", **more)
    height, width = values.shape[1:]
    summary = {
        "slide": {
            "slide_id": slide_id,
            "path": "slide.tif",
            "digest": "0",
            "mpp": 0.5,
            "size_px": list(slide_px),
        },
        "encoder": {
            "name": name,
            "spec": name,
            "digest": "0",
            "blocks": 2,
            "heads": HEADS,
            "query": "cls",
        },
        "block": block,
        "heads": "each",
        "within": "patches",
        "between": "uniform",
        "unit": "attention ÷ uniform",
        "map": {
            "size_px": [width, height],
            "mpp": 4.0,
            "level0_px": TOKEN_PX,
            "offset_px": list(offset_px),
            "frame": "qupath",
            "levels": [],
        },
        "tiles": TILES,
        "tissue": {"tokens": 100, "mapped": 100},
        "channels": [
            {"name": channel, "head": None, "file": "a.tif", "range": [0.0, 2.0], **RANGE}
            for channel in NAMES
        ],
        "files": {
            "float": "attention.ome.tif",
            "regions": "regions.geojson",
            "figure": "map.png",
            "tiles": "tiles.parquet",
        },
        "regions": {"count": 1, "threshold": 1.9, "rule": ""},
    }
    square = [[128, 128], [384, 128], [384, 384], [128, 384], [128, 128]]
    region = {"geometry": {"type": "Polygon", "coordinates": [square]}, "properties": {}}
    write_json(folder / "regions.geojson", {"type": "FeatureCollection", "features": [region]})
    write_json(folder / "summary.json", summary)
    finish(folder, card, {})
    return folder


def map_values(seed=0):
    """Numbers between 0 and 2, the first rows unmapped."""
    values = np.random.default_rng(seed).uniform(0, 2, (3, 64, 64)).astype(np.float32)
    values[:, :4] = np.nan
    return values


def measured(i, block, head):
    """The entropy that the audit below says of a tile."""
    return i / 100 + block / 10 + head / 1000


@contextmanager
def serving(*arguments, **options):
    viewer = open_viewer(*arguments, **options)
    thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield viewer
    finally:
        viewer.shutdown()
        viewer.server_close()
        thread.join(60)
        assert not thread.is_alive()


def let_in(viewer):
    """Header of a browser that has opened the printed address."""
    return {"Cookie": f"other=1; {viewer.cookie}={viewer.token}"}


def ask(viewer, path, **options):
    """Status, headers and body of an answer."""
    request = urllib.request.Request(viewer.address.rstrip("/") + path, headers=let_in(viewer), **options)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def ask_json(viewer, path):
    status, _, body = ask(viewer, path)
    assert status == 200, (path, body)
    return json.loads(body)
