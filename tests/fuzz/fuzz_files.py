"""Small whole files of every kind, as dirl and other tools write them."""

import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from dirl import synthetic
from dirl.cells.quality.statistics import TileSums, write_statistics
from dirl.config import TileConfig
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.files import write_json, write_json_with_digest
from dirl.core.journal import note_written
from dirl.encoders.huggingface import to_hf
from dirl.features.baselines import Baseline
from dirl.features.feature_files import write_rows
from dirl.pretrain.last_checkpoint import put_checkpoint
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore
from dirl.store.index import write_parquet
from tests.audit_cases import encoder, findings, summary
from tests.viewer_cases import map_values, write_map

SIDE = 192
RESAMPLED = {"level": 0.95, "resamples": 1000, "over": "patients", "units": 4}
SEGMENTER = "hematoxylin"

RECIPE = """steps: 6
batch: 8
checkpoint_every_steps: 2
views:
  size_px: 32
encoder:
  name: vit_tiny_patch16_224
  patch_px: 8
  width: 32
  depth: 2
  heads: 2
objective:
  hidden_width: 16
dense:
  weight: 0.5
"""
STUDY = """recipe: recipe.yaml
set: {steps: 4}
objectives:
  simclr:
    objective.name: simclr
arms:
  vanilla: {dense.weight: 0}
  dirl:
    dense.weight: 1.0
seeds: 2
contrasts:
  - [dirl, vanilla]
"""


class Known:
    """Tiles that labels are read for."""

    tile_ids = np.array([f"{slide}/{i}" for slide in "ab" for i in range(6)])
    slide_ids = np.array([slide for slide in "ab" for _ in range(6)])
    patient_ids = labels = centres = np.full(12, "", np.str_)


def settings(folder):
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "study.yaml").write_text(STUDY)
    return folder / "recipe.yaml", folder / "study.yaml"


def tables(folder):
    folder.mkdir()
    texts = {
        "slides": "slide_id,patient_id,centre,mpp\na,p1,c1,0.5\nb,p2,c2,0.25\n",
        "labels": "tile_id,label,fold,group\n"
        + "".join(f"{name},{'xy'[i % 2]},{i % 3},g{i % 4}\n" for i, name in enumerate(Known.tile_ids)),
        "mil": "slide_id,label,patient_id\na,x,p1\nb,y,p2\nc,x,p3\nd,y,p4\n",
        "csv": "x,y,weight,slide_id\n0,0,0.5,a\n64,0,0.25,a\n0,64,0.25,b\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    weights = {"x": [0, 64], "y": [0, 0], "weight": [0.5, 0.25], "slide_id": ["a", "a"]}
    pq.write_table(pa.table(weights), folder / "weights.parquet")
    return {name: folder / f"{name}.csv" for name in texts} | {"pq": folder / "weights.parquet"}


def own_cells(folder):
    folder.mkdir()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.uint16)
    features: list[dict[str, Any]] = []
    for number, (x, y) in enumerate([(20, 30), (60, 40), (100, 120), (150, 60), (30, 150)], start=1):
        labels[(columns - x) ** 2 + (rows - y) ** 2 < 64] = number
        ring = [[x - 8, y], [x, y - 8], [x + 8, y], [x, y + 8], [x - 8, y]]
        properties = {"objectType": "detection", "classification": {"name": "ab"[number % 2]}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    Image.fromarray(labels).save(folder / "map.png")
    tifffile.imwrite(folder / "map.tif", labels, compression="zlib")
    np.savez_compressed(folder / "arrays.npz", labels=labels, classes=np.array(list("ababa")))
    (folder / "map.json").write_text(json.dumps({"1": "a", "2": "b"}))
    (folder / "qupath.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    rings = [feature["geometry"]["coordinates"][0] for feature in features]
    nuclei = [{"contour": ring[:-1], "centroid": ring[1], "type": i % 2 + 1} for i, ring in enumerate(rings)]
    hovernet = {"mag": 20, "nuc": {str(i): one for i, one in enumerate(nuclei, 1)}}
    (folder / "hovernet.json").write_text(json.dumps(hovernet))
    (folder / "type_info.json").write_text(json.dumps({"1": ["a", [255, 0, 0]], "2": ["b", [0, 255, 0]]}))
    meta = {"base_magnification": 20.0, "magnification": 20.0, "downsampling": 1, "patch_size": 256}
    meta |= {"patch_overlap": 64, "base_mpp": 0.5, "target_patch_mpp": 0.5, "level": 0}
    patch = {"patch_coordinates": [0, 0], "cell_status": 0, "offset_global": [-32, -32]}
    cells = {"wsi_metadata": meta, "type_map": {"a": 1, "b": 2}, "cells": [one | patch for one in nuclei]}
    (folder / "cellvit.json").write_text(json.dumps(cells))
    with zipfile.ZipFile(folder / "imagej_rois.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i, ring in enumerate(rings):
            archive.writestr(f"001_{i:03d}.roi", _roi(np.array(ring[:-1])))
    return folder


def _roi(points):
    """A polygon as ImageJ keeps it."""
    (left, top), (right, bottom) = points.min(0), points.max(0)
    head = bytearray(64)
    head[:4] = b"Iout"
    struct.pack_into(">hBxhhhhH", head, 4, 227, 0, top, left, bottom, right, len(points))
    return bytes(head) + (points - (left, top)).T.astype(">i2").tobytes()


def slides(folder):
    folder.mkdir()
    synthetic.write(folder / "pyramid.tif", seed=2, size_px=(SIDE, SIDE))
    pixels = tifffile.imread(folder / "pyramid.tif")
    Image.fromarray(pixels).save(folder / "plain.png")
    Image.fromarray(pixels).save(folder / "plain.jpg", quality=90)
    tifffile.imwrite(folder / "planes.ome.tif", pixels, photometric="rgb", metadata={"axes": "YXS"})
    description = "Aperio Image Library v10\n192x192 (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5"
    tifffile.imwrite(
        folder / "aperio.svs",
        pixels,
        photometric="rgb",
        tile=(64, 64),
        compression="zlib",
        description=description,
        metadata=None,
    )
    named = ("pyramid.tif", "plain.png", "plain.jpg", "planes.ome.tif", "aperio.svs")
    return [folder / name for name in named]


def store(path):
    source = path.with_name("source")
    source.mkdir()
    slide = synthetic.write(source / "slide.tif", seed=1, size_px=(384, 384))
    made = tile([source / "slide.tif"], path, TileConfig(size_px=64, min_tissue=0.3), quiet=True)
    sums = TileSums(made.spec.mpp)

    def items():
        for row in made.index.select(["tile_id", "x", "y"]).to_pylist():
            labels = slide.labels[row["y"] : row["y"] + 64, row["x"] : row["x"] + 64]
            yield row["tile_id"], labels, np.where(labels > 0, 1, 2).astype(np.uint8)

    folder = cells_dir(path, SEGMENTER)
    card = claim(folder, new_card("cells", {}))
    pixels = np.bincount(slide.labels.ravel())
    ids = np.flatnonzero(pixels[1:]) + 1
    nuclei: dict[str, Any] = {"id": ids, "x": ids * 1.0, "y": ids * 2.0, "area_um2": pixels[ids] * 0.25}
    nuclei |= {"class": ["ab"[i % 2] for i in ids], "touches_border": ids < 3}
    write_cells(path, SEGMENTER, "slide", sums.counting(items()), nuclei)
    write_statistics(path, SEGMENTER, "slide", sums.statistics(nuclei))
    merge_cells(path, SEGMENTER)
    finish(folder, card, {})
    return path


def features(path, of):
    tiles = TileStore.open(of)
    card = claim(path, new_card("embed", {"encoder": "timm:x", "baselines": True}, {"store": tiles.digest}))
    rng, count = np.random.default_rng(0), len(tiles)
    rows = {
        "features": rng.normal(size=(count, 6)).astype(np.float32),
        "coords": np.stack([tiles.index[axis].to_numpy() for axis in "xy"], axis=1),
        "index": np.arange(count),
        "ready_made": np.zeros(count, bool),
        "hash": rng.integers(0, 2**60, count).astype(np.uint64),
        "tile_id": tiles.tile_ids,
        "slide_id": tiles.slide_ids,
        "patient_id": np.full(count, "p", np.str_),
        "label": np.full(count, "", np.str_),
    }
    write_rows(path / "h5_files" / "slide.h5", rows, {"patch_size": 64})
    beside: dict[str, NDArray[Any]] = {
        name: rng.normal(size=(count, 4)).astype(np.float32) for name in Baseline
    }
    write_rows(path / "baselines" / "slide.h5", beside)
    finish(path, card, {"tiles": count})
    return path


def clam(folder, words=False):
    """Files as CLAM writes them; `words` adds strings of variable length, as h5py writes them by itself."""
    folder.mkdir()
    for number, name in enumerate("abcd"):
        values = np.random.default_rng(number).normal(size=(5, 6)).astype(np.float32)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("features", data=values, maxshape=(None, 6), chunks=(1, 6))
            file.create_dataset("coords", data=np.arange(10).reshape(5, 2) * 64, compression="gzip")
            if words:
                file["tile_id"] = [f"{name}/{i}" for i in range(5)]
                file["patient_id"] = ["p"] * 5
    return folder


def encoders(folder):
    arguments: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    torch.manual_seed(5)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, **arguments)
    run, hf, alone = folder / "run", folder / "hf", folder / "alone"
    card = claim(run, new_card("pretrain", {}))
    (run / "encoder").mkdir()
    hf.mkdir()
    alone.mkdir()
    save_file(model.state_dict(), run / "encoder" / "model.safetensors")
    look = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32]}
    config: dict[str, Any] = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": arguments,
        "pretrained_cfg": look,
    }
    (run / "encoder" / "config.json").write_text(json.dumps(config | {"num_features": 24}))
    note_written(run / "encoder")
    finish(run, card, {})
    torch.save({"global_step": 3, "state_dict": model.state_dict()}, run / "part")
    put_checkpoint(run / "part", run / "last.ckpt")
    write_json_with_digest(run / "selection.json", {"numbers": list(range(9)), "slides": {"a": [9, 30]}})
    for name in ("model.safetensors", "config.json"):
        shutil.copy(run / "encoder" / name, alone)
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pth")
    save_file(to_hf(model.state_dict(), "vit"), hf / "model.safetensors")
    config = {
        "model_type": "vit",
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "image_size": 32,
        "patch_size": 8,
    }
    (hf / "config.json").write_text(json.dumps(config))
    (hf / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    )
    return run, alone, folder / "weights.pth", hf


def probes(folder):
    found: list[Path] = []
    for name in ("one", "two"):
        out = folder / name
        card = claim(out, new_card("probe", {"name": name}, {}))
        rng, count = np.random.default_rng(len(found)), 24
        truth = np.array(["a", "b", "c"])[np.arange(count) % 3]
        columns = {
            "tile_id": [f"t{i:03}" for i in range(count)],
            "label": truth.tolist(),
            "fold": (np.arange(count) % 5).tolist(),
            "group": (np.arange(count) // 6).tolist(),
            "unit": (np.arange(count) // 6).tolist(),
            "knn20": rng.permutation(truth).tolist(),
            "linear": rng.permutation(truth).tolist(),
            "colour_histogram/knn20": truth[::-1].tolist(),  # the same in every result
            "colour_histogram/linear": truth[::-1].tolist(),
        }
        write_parquet(out / "predictions.parquet", pa.table(columns))
        split = {"digest": "s" * 16, "scheme": "patients"}
        write_json(out / "summary.json", {"split": split, "interval": RESAMPLED})
        finish(out, card, {})
        found.append(out)
    return found


def mil(out):
    card = claim(out, new_card("mil", {}, {}))
    lines = ["model,slide_id,group,unit,fold,label,predicted"]
    for model in ("mean", "abmil"):
        lines += [
            f"{model},s{i:03},p{i // 2},{i // 2},{i % 5},{'ab'[i % 2]},{'ab'[i % 3 % 2]}" for i in range(20)
        ]
    (out / "predictions.csv").write_text("\n".join(lines) + "\n")
    note_written(out / "predictions.csv")
    split = {"digest": "m" * 16, "scheme": "patients"}
    write_json(out / "summary.json", {"split": split, "interval": RESAMPLED})
    finish(out, card, {})
    return out


def audit(out, of):
    from dirl.audit.table import SCHEMA

    tiles = TileStore.open(of)
    card = claim(out, new_card("audit", {}, {"store": tiles.digest}))
    rows = [
        dict.fromkeys(SCHEMA.names, 0.25)
        | {"encoder": encoder, "tile_id": name, "slide_id": "slide", "block": block, "head": head}
        for encoder in ("one", "two")
        for name in tiles.tile_ids.tolist()
        for block in range(2)
        for head in (0, 1, -1)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), out / "measures.parquet")
    note_written(out / "measures.parquet")
    found = findings(encoder("one", 0.5), encoder("two", 0.5))
    found["encoders"] = found["encoders"][:2]
    write_json(out / "summary.json", summary(found).to_json())
    finish(out, card, {})
    return out


def slide_map(out):
    return write_map(out, "map", map_values(0))


def metrics(path):
    lines = ["step,loss,embedding/std"] + [f"{step},{1 / step:.6g},0.{step}" for step in range(1, 12)]
    path.write_text("\n".join(lines) + "\n")
    return path
