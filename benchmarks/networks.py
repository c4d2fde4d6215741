"""Network segmenters on MoNuSeg beside those without weights.

Published weights are large, and cannot be downloaded everywhere. So small networks are trained for some
minutes of one core, on 9 of the 13 images at 0.5 µm/px. All segmenters are scored on the other 4. The scores
show that scale, orientation and classes are right. They do not show what the architectures can do. The
classes are artificial: nuclei below and above the median area. Needs the data (``DIRL_DATA``) and
``pip install 'dirl[cells]'``; HistomicsTK if it is installed.

``python benchmarks/networks.py [NETWORK…] [--weights FOLDER] [--mpp MPP]``: networks whose weights lie in the
folder already are scored without training. At another resolution than 0.5 µm/px the results' name has it.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import json
import math
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import write
from PIL import Image
from safetensors.torch import save_model

from dirl.cells.registry import load_segmenter
from dirl.cells.scoring.metrics import coverage_correlation, score_nuclei
from dirl.cells.segmenters import cellseg
from dirl.core.errors import ConfigError

NATIVE_MPP, USUAL_MPP = 0.25, 0.5
SIDE, CROP, BATCH = 256, 128, 4
TOKEN_UM = 8.0
RAYS = 32
CLASSES = ["small", "large"]
WIDTHS = {"out_channels": [64, 48, 32, 32]}
NETWORKS = {
    "stardist": (cellseg.StarDist, "resnet10t", WIDTHS),
    "hovernet": (cellseg.HoVerNet, "resnet10t", {"out_channels": [64, 64, 32, 32], "n_dense": [2, 1]}),
    "instanseg": (cellseg.InstanSeg, "resnet10t", WIDTHS),
    "cellvit": (
        cellseg.CellViT,
        "samvit_base_patch16",
        {"encoder_kws": {"embed_dim": 96, "depth": 4, "num_heads": 3}, "out_channels": [64, 64, 32, 32]},
    ),
}
# Of one core, until there is a score worth showing.
MINUTES = {"hovernet": 3.5, "stardist": 4.0, "cellvit": 10.0, "instanseg": 5.0}
WITHOUT_WEIGHTS = ("hematoxylin", "histomicstk")
PUBLISHED = ("hovernet", "stardist", "cellvit", "cellpose")


def load() -> tuple[list[tuple[str, np.ndarray, np.ndarray]], list[tuple[str, np.ndarray, np.ndarray]]]:
    """Images at 0.25 µm/px with their truth: 9 to train on, 4 to score on."""
    named = os.environ.get("DIRL_DATA")
    data = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    files = sorted((data / "monuseg13").glob("*.labels.png"))
    if not files:
        raise SystemExit("no monuseg13: set DIRL_DATA to the folder that holds it")
    images = []
    for file in files:
        name = file.name.removesuffix(".labels.png")
        with Image.open(file) as labels, Image.open(file.with_name(f"{name}.png")) as rgb:
            images.append((name, np.asarray(rgb.convert("RGB")), np.asarray(labels).astype(np.int32)))
    kept = images[2::3]
    return [image for image in images if image not in kept], kept


def shrunk(rgb: np.ndarray, labels: np.ndarray, mpp: float) -> tuple[np.ndarray, np.ndarray]:
    by = round(mpp / NATIVE_MPP)
    return np.asarray(Image.fromarray(rgb).reduce(by)), labels[by // 2 :: by, by // 2 :: by]


def sizes(labels: np.ndarray, least: float) -> np.ndarray:
    """Class of each pixel: 0 background, 1 and 2 nuclei below and above an area."""
    areas = np.bincount(labels.ravel())
    return ((labels > 0) * (1 + (areas >= least)[labels])).astype(np.int64)


def crops(images: list[tuple[np.ndarray, np.ndarray, np.ndarray]], rng: np.random.Generator) -> list[Any]:
    """Random crops in random orientation and a little other colour: image, labels, sizes."""
    batch = []
    for _ in range(BATCH):
        rgb, labels, kinds = images[rng.integers(len(images))]
        y, x = (rng.integers(side - CROP + 1) for side in labels.shape)
        turn, flip = rng.integers(4), rng.integers(2)
        cut = [a[y : y + CROP, x : x + CROP] for a in (rgb, labels, kinds)]
        cut = [np.rot90(a[:, ::-1] if flip else a, int(turn)) for a in cut]
        colour = (rng.uniform(0.9, 1.1, 3), rng.uniform(-0.05, 0.05, 3))
        batch.append((cut[0] / 255 * colour[0] + colour[1], np.ascontiguousarray(cut[1]), cut[2]))
    return [np.stack(column) for column in zip(*batch, strict=True)]


def loss(name: str, model: Any, images: torch.Tensor, labels: np.ndarray, kinds: torch.Tensor) -> Any:
    from cellseg_models_pytorch.transforms import gen_dist_maps, gen_hv_maps, gen_stardist_maps

    out = model(images)["nuc"]
    total = F.cross_entropy(out.type_map, kinds)
    inside = (kinds > 0).float()
    if name == "instanseg":
        from cellseg_models_pytorch.losses.criterions import InstanSegCriterion

        apart = InstanSegCriterion(pixel_classifier=model.probability_net, window_size=CROP // 4)
        return total + apart(out.aux_map, torch.from_numpy(labels).long())
    if name in ("hovernet", "cellvit"):
        wanted = torch.from_numpy(np.stack([gen_hv_maps(image) for image in labels])).float()
        # Where the maps jump, between nuclei, is what counts: their slopes too.
        slopes = [F.mse_loss(out.aux_map.diff(dim=d), wanted.diff(dim=d)) for d in (2, 3)]
        return total + F.mse_loss(out.aux_map, wanted) + 4 * sum(slopes)
    rays = torch.from_numpy(np.stack([gen_stardist_maps(image, RAYS) for image in labels]))
    close = torch.from_numpy(np.stack([gen_dist_maps(image) for image in labels])).float()
    off = ((out.aux_map - rays).abs().mean(1) * inside).sum() / (1 + inside.sum())
    return total + 4 * F.mse_loss(out.binary_map[:, 0], close) + 0.2 * off


def begin_as_discs(classifier: Any) -> None:
    """Let InstanSeg's pixel classifier begin with what is near a seed: minutes did not teach it that."""
    inward = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0.0]])
    with torch.no_grad():
        classifier.fc1.weight.copy_(inward)
        classifier.fc2.weight.copy_(torch.eye(5))
        classifier.fc3.weight.copy_(torch.tensor([[-3.0, -3, -3, -3, 0]]))
        for layer, bias in ((classifier.fc1, 0.0), (classifier.fc2, 0.0), (classifier.fc3, 6.0)):
            layer.bias.fill_(bias)


def train(name: str, images: list[Any], minutes: float, file: Path) -> dict[str, float]:
    kind, encoder, settings = NETWORKS[name]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, family = kind.model.split(".")
    library = getattr(import_module(f"cellseg_models_pytorch.models.{module}"), family)
    model = library(
        len(CLASSES) + 1, enc_name=encoder, enc_pretrain=False, device="cpu", model_kwargs=settings
    ).model.train()
    if name == "instanseg":
        begin_as_discs(model.probability_net)
    rate = 5e-4 if name == "instanseg" else 2e-3  # at more, InstanSeg's offsets run away
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-4)
    rng, steps, value = np.random.default_rng(0), 0, math.nan
    started = time.process_time()
    while (share := (time.process_time() - started) / (60 * minutes)) < 1:
        optimiser.param_groups[0]["lr"] = rate * min(1, steps / 20) * (1 + math.cos(math.pi * share)) / 2
        rgb, labels, kinds = crops(images, rng)
        x = torch.from_numpy(rgb).permute(0, 3, 1, 2).float()
        optimiser.zero_grad()
        term = loss(name, model, x, labels, torch.from_numpy(np.ascontiguousarray(kinds)))
        term.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        value, steps = term.item(), steps + 1
        if steps % 20 == 0:
            print(f"{name}: step {steps}, {share:.0%}, loss {value:.3f}", flush=True)
    save_model(model.eval(), str(file))
    file.with_suffix(".json").write_text(json.dumps({"classes": CLASSES, "network": settings}))
    return {"steps": steps, "cpu_minutes": minutes, "last_loss": value}


def judge(spec: str, images: list[Any], least: float, mpp: float) -> dict[str, Any]:
    """Score one segmenter in a process of its own, for its peak memory."""
    torch.set_num_threads(1)
    segmenter: Any = load_segmenter(spec, device="cpu")
    rows, cpu, classes = {}, [], []
    for name, rgb, labels in images:
        small, truth = shrunk(rgb, labels, mpp)
        find = segmenter.fit([small], mpp)
        mask = find([small])[0]
        r = coverage_correlation(mask.labels, truth, round(TOKEN_UM / mpp))
        native = segmenter.fit([rgb], NATIVE_MPP)([rgb])[0]
        rows[name] = {
            **asdict(score_nuclei(mask.labels, truth)),
            "coverage_correlation": r,
            "dice_from_0.25": score_nuclei(native.labels, labels).dice,
            "pq_from_0.25": score_nuclei(native.labels, labels).pq,
        }
        if mask.classes is not None:
            classes += typed(mask, truth, sizes(truth, least))
        bottom, right = (max(0, side - SIDE) for side in small.shape[:2])
        tiles = [small[y : y + SIDE, x : x + SIDE] for y in (0, bottom) for x in (0, right)]
        for _ in range(3):
            started = time.process_time()
            find(tiles)
            cpu.append((time.process_time() - started) / len(tiles))
    columns = {key: [row[key] for row in rows.values()] for key in next(iter(rows.values()))}
    result = {
        "mean": {key: float(np.mean(values)) for key, values in columns.items()},
        "worst": {key: float(np.min(values)) for key, values in columns.items()},
        "per_image": rows,
        "tiles_per_cpu_second": 1 / float(np.median(cpu)),
        "tiles_per_cpu_second_from_to": [1 / max(cpu), 1 / min(cpu)],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if classes:
        right = np.array([a == b for a, b in classes])
        larger = np.array([b == 2 for _, b in classes])
        result["classes"] = {
            "matched_nuclei": len(classes),
            "balanced_accuracy": float((right[larger].mean() + right[~larger].mean()) / 2),
        }
    return result


def typed(mask: Any, truth: np.ndarray, kinds: np.ndarray) -> list[tuple[int, int]]:
    """Predicted and true class of nuclei that match at IoU > 0.5."""
    pairs = []
    for number in range(1, len(mask) + 1):
        here = mask.labels == number
        ids, overlap = np.unique(truth[here], return_counts=True)
        best = ids[overlap.argmax()]
        if best and overlap.max() > 0.5 * (here | (truth == best)).sum():
            pairs.append((int(mask.classes[number - 1]) + 1, int(kinds[truth == best][0])))
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()) / "networks")
    parser.add_argument("--mpp", type=float, choices=[0.5, 1.0], default=USUAL_MPP)
    stated = parser.parse_args()
    stated.weights.mkdir(parents=True, exist_ok=True)
    trained_on, kept = load()
    small = [shrunk(rgb, labels, stated.mpp) for _, rgb, labels in trained_on]
    least = float(np.median(np.concatenate([np.unique(t[t > 0], return_counts=True)[1] for _, t in small])))
    ready = [(rgb, labels, sizes(labels, least)) for rgb, labels in small]
    specs, training = {name: name for name in WITHOUT_WEIGHTS}, {}
    for name in stated.networks:
        file, notes = (stated.weights / f"{name}.{kind}" for kind in ("safetensors", "training.json"))
        if not notes.exists():
            notes.write_text(json.dumps(train(name, ready, MINUTES[name], file) | {"mpp": stated.mpp}))
        training[name] = json.loads(notes.read_text())
        if (mpp := training[name].get("mpp", USUAL_MPP)) != stated.mpp:
            raise SystemExit(f"{file} was trained at {mpp:g} µm/px: name another folder by --weights")
        specs[f"{name}, trained here"] = f"{name},weights={file},mpp={stated.mpp:g}"
    specs |= {f"{name}, published weights": name for name in PUBLISHED}
    results: dict[str, Any] = {}
    for name, spec in specs.items():
        try:
            load_segmenter(spec)
        except ConfigError as error:
            results[name] = {"not_scored": error.reason}
        else:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                results[name] = pool.submit(judge, spec, kept, least, stated.mpp).result()
        print(name, json.dumps(results[name].get("mean", results[name])), flush=True)
    what = {
        "what": f"4 images of monuseg13 at {stated.mpp:g} µm/px; tiles of at most 256 px, one thread",
        "note": (
            "The networks marked 'trained here' are small, without pretrained encoders, trained for the "
            "stated minutes of one core on the other 9 images. hematoxylin was tuned on all 13. The classes "
            "are nuclei below and above the median area; .5 is chance. *_from_0.25: given at 0.25 µm/px, "
            "shrunk by the adapter, its labels enlarged and scored there."
        ),
        "scored_on": [name for name, _, _ in kept],
        "training": training,
        "segmenters": results,
    }
    print(write("networks" if stated.mpp == USUAL_MPP else f"networks-{stated.mpp:g}um", what))


if __name__ == "__main__":
    main()
