"""Every kind of file that dirl reads: a small whole one, and the function that the commands read it by."""

import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dirl.cells.files.geojson import GeoJSON
from dirl.cells.files.imagej_rois import ImageJRois
from dirl.cells.files.label_maps import LabelMaps
from dirl.cells.files.tool_json import CellViTJSON, HoVerNetJSON
from dirl.cells.quality.statistics import slide_statistics
from dirl.cells.source import PixelGrid
from dirl.config import MilConfig, load_recipe
from dirl.core.errors import StoreError
from dirl.core.files import read_json_with_digest
from dirl.encoders.loading import load_encoder
from dirl.encoders.weights import read_weights, weights_digest
from dirl.evaluate.common.labels import read_labels
from dirl.evaluate.compare.entries import read_entries
from dirl.evaluate.mil.bags import read_bags
from dirl.evaluate.mil.labels import read_slide_labels
from dirl.features.external import read_external
from dirl.features.feature_files import read_features
from dirl.maps.scaling import read_tile_weights
from dirl.pretrain.last_checkpoint import read_checkpoint
from dirl.pretrain.read_run import read_metrics
from dirl.slides.reading import open_slide
from dirl.slides.tissue import find_tissue
from dirl.store.dataset import TileStore
from dirl.study.matrix import expand, load_study
from dirl.tables.cohort import read_cohort
from dirl.viewer.maps import SlideMap
from dirl.viewer.measures import AuditMeasures
from dirl.viewer.neighbours import read_neighbours
from tests.fuzz import fuzz_files as files

SIDE = files.SIDE


@dataclasses.dataclass
class Kind:
    """A kind of file.

    Attributes
    ----------
    name
        What the table calls it.
    path
        The file that is damaged.
    read
        Reads it, and all that belongs to it.
    text
        ``json`` or ``lines``: how its text is edited; empty where it is none.
    checked
        Its content is checked by a digest: no damage may give another result without an error.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    text: str = ""
    checked: bool = False

    def __post_init__(self) -> None:
        self.data = self.path.read_bytes()

    def restore(self) -> None:
        """Put the whole file back."""
        if self.path.is_dir() and not self.path.is_symlink():
            self.path.rmdir()
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(self.data)


def make_kinds(folder: Path) -> list[Kind]:
    """Write a small whole file of every kind into a folder."""
    return [
        *_settings(folder),
        *_tables(folder),
        *_own_cells(folder),
        *_slides(folder),
        *_store(folder),
        *_features(folder),
        *_encoders(folder),
        *_results(folder),
    ]


def _settings(folder: Path) -> list[Kind]:
    recipe, study = files.settings(folder / "settings")
    return [
        Kind("recipe", recipe, lambda: load_recipe(recipe), "lines"),
        Kind("study", study, lambda: [(run.name, run.recipe) for run in expand(load_study(study))], "lines"),
    ]


def _tables(folder: Path) -> list[Kind]:
    made = files.tables(folder / "tables")
    bags = read_bags(files.clam(folder / "bags"), quiet=True)
    known = files.Known()
    return [
        Kind("slides table", made["slides"], lambda: read_cohort(made["slides"], ["a", "b"]), "lines"),
        Kind("labels of tiles", made["labels"], lambda: read_labels(known, str(made["labels"])), "lines"),
        Kind(
            "labels of slides",
            made["mil"],
            lambda: read_slide_labels(made["mil"], bags, MilConfig()),
            "lines",
        ),
        Kind("weights of tiles, CSV", made["csv"], lambda: read_tile_weights(made["csv"], "a"), "lines"),
        Kind("weights of tiles, Parquet", made["pq"], lambda: read_tile_weights(made["pq"], "a")),
    ]


def _own_cells(folder: Path) -> list[Kind]:
    def read(source: Any, file: Path) -> Any:
        found = source.read(file, (SIDE, SIDE), 0.5)
        return found, found.cut(PixelGrid(0, 0, SIDE))

    place = files.own_cells(folder / "own")
    sources = {
        "map.png": LabelMaps,
        "map.tif": LabelMaps,
        "arrays.npz": LabelMaps,
        "qupath.geojson": GeoJSON,
        "hovernet.json": HoVerNetJSON,
        "cellvit.json": CellViTJSON,
        "imagej_rois.zip": ImageJRois,
    }
    readers = {
        name: partial(read, source(str(place / name)), place / name) for name, source in sources.items()
    }
    texts = {name: "json" * name.endswith("json") for name in readers}
    readers |= {"map.json": readers["map.png"], "type_info.json": readers["hovernet.json"]}
    texts |= {"map.json": "json", "type_info.json": "json"}
    return [Kind(f"nuclei, {name}", place / name, read, texts[name]) for name, read in readers.items()]


def _slides(folder: Path) -> list[Kind]:
    def read(file: Path) -> Any:
        slide = open_slide(file, 0.5)
        try:
            tissue = find_tissue(slide)
            return slide.info, tissue.mask, slide.read_level(0, 0, 0, *slide.info.size_px)
        finally:
            slide.close()

    return [Kind(f"slide {file.name}", file, partial(read, file)) for file in files.slides(folder / "slides")]


def _store(folder: Path) -> list[Kind]:
    store = files.store(folder / "store")
    cells = store / "cells" / files.SEGMENTER

    def read() -> Any:
        tiles = TileStore.open(store)
        facts = tiles.spec, tiles.slides, tiles.tile_ids, tiles.patient_ids, tiles.index
        return facts, [tiles.image(i) for i in range(len(tiles))]

    def read_cells() -> Any:
        tiles = TileStore.open(store)
        held = tiles.cells(files.SEGMENTER)
        numbers = range(len(held))
        return (
            [(held.labels(i), held.regions(i)) for i in numbers],
            [held.nuclei(name) for name in tiles.slides],
            [slide_statistics(tiles, held, name) for name in tiles.slides],
        )

    return [
        Kind("tiles.tar", store / "tiles" / "slide.tar", read, checked=True),
        Kind("tiles index", store / "index.parquet", read, checked=True),
        Kind("tiles slides.json", store / "slides.json", read, "json", checked=True),
        Kind("tiles card.json", store / "card.json", read, "json", checked=True),
        Kind("cells.tar", cells / "slide.tar", read_cells, checked=True),
        Kind("cells index", cells / "index.parquet", read_cells, checked=True),
        Kind("nuclei.parquet", cells / "slide.nuclei.parquet", read_cells, checked=True),
        Kind("cells statistics.json", cells / "slide.statistics.json", read_cells, "json", checked=True),
        Kind("cells card.json", cells / "card.json", read_cells, "json", checked=True),
    ]


def _features(folder: Path) -> list[Kind]:
    ours, theirs = files.features(folder / "features", folder / "store"), files.clam(folder / "clam")
    old = files.clam(folder / "old", words=True)
    store = TileStore.open(folder / "store")

    def bags(path: Path) -> Any:
        found = read_bags(path, quiet=True)
        values = [found.values(i, name) for i in range(len(found)) for name in found.sets]
        return found.slide_ids, found.patient_ids, values, [found.places(i) for i in range(len(found))]

    def read() -> Any:
        return read_features(ours), bags(ours), read_neighbours(ours, store)

    first = sorted((ours / "h5_files").glob("*.h5"))[0]
    return [
        Kind("features, ours", first, read, checked=True),
        Kind("features, baselines", ours / "baselines" / first.name, read, checked=True),
        Kind("features card.json", ours / "card.json", read, "json", checked=True),
        Kind("features, one file viewed", first, lambda: read_neighbours(first, store)),
        Kind("features, CLAM", theirs / "a.h5", lambda: (read_external(theirs), bags(theirs))),
        Kind("features, strings in a heap", old / "a.h5", lambda: bags(old)),
    ]


def _encoders(folder: Path) -> list[Kind]:
    run, alone, checkpoint, hf = files.encoders(folder / "encoders")

    def load(spec: str) -> Any:
        found = load_encoder(spec)
        return found.digest, found.mean, found.std, found.patch_px, found.input_px

    def kept() -> Any:
        found = read_json_with_digest(run / "selection.json")
        if found is None:
            raise StoreError("damaged, and so made anew", remedy="none is needed")
        return found

    own, foreign, last = run / "encoder", alone / "model.safetensors", run / "last.ckpt"
    return [
        Kind("run model.safetensors", own / "model.safetensors", lambda: load(str(run)), checked=True),
        Kind("run config.json", own / "config.json", lambda: load(str(run)), "json", checked=True),
        Kind("run last.ckpt", last, lambda: read_checkpoint(last), checked=True),
        Kind(
            "run last.ckpt.json", run / "last.ckpt.json", lambda: read_checkpoint(last), "json", checked=True
        ),
        Kind("run selection.json", run / "selection.json", kept, "json", checked=True),
        Kind("weights.safetensors", foreign, lambda: read_weights(foreign)),
        Kind("timm model.safetensors", foreign, lambda: load(f"timm:{alone}")),
        Kind("timm config.json", alone / "config.json", lambda: load(f"timm:{alone}"), "json"),
        Kind("weights.pth", checkpoint, lambda: read_weights(checkpoint)),
        Kind("hf config.json", hf / "config.json", lambda: load(f"hf:{hf}"), "json"),
        Kind("hf preprocessor", hf / "preprocessor_config.json", lambda: load(f"hf:{hf}"), "json"),
    ]


def _results(folder: Path) -> list[Kind]:
    store = folder / "store"
    probes, mil = files.probes(folder / "probes"), files.mil(folder / "mil")
    audit, whole = files.audit(folder / "audit", store), files.slide_map(folder / "map")
    metrics = files.metrics(folder / "metrics.csv")

    def measures() -> Any:
        found = AuditMeasures(audit, TileStore.open(store))
        rows = np.arange(4)
        return found.encoders, found.of_tile(0), found.values(rows, 0, 1, 0, "entropy")

    def drawn() -> Any:
        found = SlideMap(whole)
        try:
            sizes = [
                (level, channel) for level in range(found.levels) for channel in range(len(found.channels))
            ]
            boxes = [found.read(channel, 0, 0, *found.size_px, level) for level, channel in sizes]
            return found.facts, found.regions, found.channels, found.token_px, found.slide_id, boxes
        finally:
            found.close()

    compared = [
        Kind(f"probe {name}", probes[0] / name, lambda: read_entries(probes), text, checked=True)
        for name, text in (("predictions.parquet", ""), ("summary.json", "json"), ("card.json", "json"))
    ]
    trained = [
        Kind(f"mil {name}", mil / name, lambda: read_entries([mil]), text, checked=True)
        for name, text in (("predictions.csv", "lines"), ("summary.json", "json"))
    ]
    audited = [
        Kind(f"audit {name}", audit / name, measures, text, checked=True)
        for name, text in (("measures.parquet", ""), ("summary.json", "json"), ("card.json", "json"))
    ]
    mapped = [
        Kind(f"map {name}", whole / name, drawn, text, checked=True)
        for name, text in (
            *(("attention.ome.tif", ""), ("regions.geojson", "json")),
            *(("summary.json", "json"), ("card.json", "json")),
        )
    ]
    return [
        *(*compared, *trained, *audited, *mapped),
        Kind("metrics.csv", metrics, lambda: read_metrics(metrics), "lines"),
    ]


def canonical(value: Any) -> bytes:
    """Digest of a result by content, whatever it is made of."""
    total = hashlib.sha256()
    _add(total, value)
    return total.digest()


def _add(total: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, torch.nn.Module):
        value = weights_digest(value)
    if isinstance(value, pa.Table):
        value = value.to_pydict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, np.ndarray) and value.dtype != object:
        total.update(repr((value.dtype.str, value.shape)).encode())
        total.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key, item in value.items():
            total.update(ascii(key).encode())
            _add(total, item)
    elif isinstance(value, list | tuple | np.ndarray):
        total.update(f"[{len(value)}".encode())
        for item in value:
            _add(total, item)
    elif callable(value):
        return
    else:
        total.update(ascii(value).encode())
