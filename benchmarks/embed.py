"""Tiles per second from a slide to features: dirl, a plain loop and LazySlide, over the bare forward pass.

All embed the same tiles of one slide at its own resolution, with the same model, weights and batch. They take
turns in one process. Tissue, tiles and the model are ready before the clock starts.

- ``bare``: the model alone on normalised float tensors that lie in memory.
- ``ours``: `dirl embed --no-baselines` in fp32. ``ours_default``: the same in its default precision, if that
  differs. The others compute no baselines, so this is equal work.
- ``ours_with_baselines``: the default, with an untrained encoder's forward pass. It is compared with two bare
  passes.
- ``plain``: OpenSlide, PIL, torchvision's transforms and timm in a loop.
- ``lazyslide_N``: `lazyslide.tl.feature_extraction` with N loader processes; the faster one counts.

Also the cosine of features in bf16 with those in fp32, and the time of a bf16 forward pass by an fp32 one.
Needs a slide (``DIRL_DATA``, or ``--slide``) and ``pip install lazyslide``. Without it LazySlide is left out,
and the result says so.

python benchmarks/embed.py [--rounds 5] [--models vit_small_patch16_224] [--stride 112] [--busy]
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import torch
from harness import compare, write
from torchvision import transforms

from dirl.config import TileConfig
from dirl.core.device import choose_device
from dirl.core.precision import BF16, FP32, ForwardPrecision, choose_precision
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess
from dirl.features.embed import THREADS
from dirl.features.pooling import embed_pooled
from dirl.features.sources import SlideFiles, SlideTiles
from dirl.features.stream import embed_slides
from dirl.slides.reading import open_slide

MODELS = ("vit_small_patch16_224", "vit_tiny_patch16_224")
SIZE_PX = 224
LOADERS = (0, 2)  # processes; 0 is LazySlide's default
BF16_TILES = 8


class Laid(SlideFiles):
    """A slide whose tissue was found before the clock started, and which stays open."""

    def __init__(self, slide: Path, mpp: float, stride_px: int) -> None:
        super().__init__([slide], TileConfig(mpp=mpp, size_px=SIZE_PX, stride_px=stride_px))
        found = super().open(self.slide_ids[0])
        self.found = SlideTiles(found.record, found.spec, found.rows, found.image, None, lambda: None)

    def open(self, slide_id: str) -> SlideTiles:
        """The tiles, laid before."""
        return self.found


def default_slide() -> Path:
    named = os.environ.get("DIRL_DATA")
    data = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return data / "slides" / "CMU-1-Small-Region.svs"


def ours(
    laid: Laid, encoders: dict[str, LoadedEncoder], precision: ForwardPrecision, batch: int
) -> np.ndarray:
    failures: dict[str, Any] = {}
    forward = partial(embed_pooled, precision=precision)
    ((_, rows),) = embed_slides(
        laid,
        laid.slide_ids,
        encoders,
        forward,
        failures,
        batch=batch,
        threads=THREADS,
        advance=lambda *_: None,
    )
    return rows["features"]


@torch.inference_mode()
def bare(encoder: LoadedEncoder, ready: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([encoder.model(one).float().cpu().numpy() for one in ready])


def normalise(encoder: LoadedEncoder) -> Callable[[Any], torch.Tensor]:
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(encoder.mean, encoder.std)])


@torch.inference_mode()
def plain(slide: Path, coords: np.ndarray, encoder: LoadedEncoder, batch: int) -> np.ndarray:
    opened, transform = openslide.OpenSlide(slide), normalise(encoder)
    features = []
    for start in range(0, len(coords), batch):
        images = [
            transform(opened.read_region((int(x), int(y)), 0, (SIZE_PX, SIZE_PX)).convert("RGB"))
            for x, y in coords[start : start + batch]
        ]
        features.append(encoder.model(torch.stack(images).to(encoder.device)).cpu().numpy())
    return np.concatenate(features)


def lazyslide_ways(
    slide: Path, coords: np.ndarray, mpp: float, encoder: LoadedEncoder, batch: int
) -> dict[str, Callable[[], np.ndarray]]:
    """LazySlide on the same tiles, with each number of loader processes."""
    import lazyslide
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    wsi = open_wsi(str(slide))
    spec = TileSpec.from_wsidata(wsi, tile_px=SIZE_PX, mpp=mpp)
    add_tiles(wsi, "tiles", coords, spec, np.zeros(len(coords), int))
    transform = normalise(encoder)

    def extract(workers: int) -> np.ndarray:
        found: np.ndarray = lazyslide.tl.feature_extraction(
            wsi,
            encoder.model,
            transform=transform,
            device=str(encoder.device),
            batch_size=batch,
            num_workers=workers,
            pbar=False,
            return_features=True,
        )
        return found

    return {f"lazyslide_{workers}": partial(extract, workers) for workers in LOADERS}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def measure(model: str, laid: Laid, slide: Path, mpp: float, batch: int, rounds: int) -> dict[str, Any]:
    device = choose_device("auto")
    encoder = load_encoder(f"timm:{model},weights=random", device=device)
    coords = laid.found.rows["coords"]
    images = np.stack([laid.found.image(i) for i in range(len(coords))])
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
    ready = [preprocess(encoder, part).contiguous() for part in tensors.split(batch)]
    auto = choose_precision("auto", device)
    both = {"features": encoder, "untrained": encoder.randomised(1)}
    ways: dict[str, Callable[[], np.ndarray]] = {
        "bare": lambda: bare(encoder, ready),
        "ours": lambda: ours(laid, {"features": encoder}, FP32, batch),
    }
    if auto != FP32:
        ways["ours_default"] = lambda: ours(laid, {"features": encoder}, auto, batch)
    ways["ours_with_baselines"] = lambda: ours(laid, both, FP32, batch)
    ways["plain"] = lambda: plain(slide, coords, encoder, batch)
    missing = None
    try:
        ways |= lazyslide_ways(slide, coords, mpp, encoder, batch)
    except ImportError as error:
        missing = f"not compared: {error}"
    reference = ways["bare"]()
    agree = {name: float(cosines(way(), reference).min()) for name, way in list(ways.items())[1:]}
    timed = compare(
        f"{model}, {len(coords)} tiles of {SIZE_PX} px", ways, rounds, count=len(coords), unit="tile"
    )
    seconds = {name: one["seconds"]["median"] for name, one in timed["ways"].items()}
    # Of this process alone, which tells more where others use the machine; loader processes are not in it.
    cpu = {name: one["cpu_seconds"]["median"] for name, one in timed["ways"].items()}
    alone = [name for name in ways if not name.startswith("lazyslide") or name == "lazyslide_0"]
    theirs = [seconds[name] for name in ways if name.startswith("lazyslide")]
    default = seconds.get("ours_default", seconds["ours"])
    few = [one[:BF16_TILES] for one in ready[:1]]
    with torch.autocast(device.type, torch.bfloat16):
        low = bare(encoder, few)
        high = reference[: len(low)]

    def in_bf16() -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16):
            return bare(encoder, few)

    return {
        "lazyslide": missing or f"faster of {', '.join(map(str, LOADERS))} loader processes",
        "precision_by_default": auto,
        "least_cosine_with_bare": agree,
        "throughput_by_bare": {name: seconds["bare"] / seconds[name] for name in ways},
        "cpu_seconds_by_those_of_bare": {name: cpu[name] / cpu["bare"] for name in alone},
        "ours_with_baselines_by_two_bare": 2 * seconds["bare"] / seconds["ours_with_baselines"],
        "ours_by_plain": seconds["plain"] / seconds["ours"],
        "ours_by_lazyslide": min(theirs) / seconds["ours"] if theirs else None,
        "ours_default_by_lazyslide": min(theirs) / default if theirs else None,
        "bf16": {
            "least_cosine_with_fp32": float(cosines(low, high).min()),
            "forward": compare(
                "forward pass in bf16 by fp32",
                {"fp32": lambda: bare(encoder, few), BF16: in_bf16},
                3,
                count=BF16_TILES,
                unit="tile",
            ),
        },
        "timed": timed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--slide", type=Path, default=default_slide(), help="OpenSlide's, with a stated mpp")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=SIZE_PX, help="less makes more tiles")
    parser.add_argument("--busy", action="store_true", help="note that others used the machine")
    chosen = parser.parse_args()
    if not chosen.slide.is_file():
        raise SystemExit(f"no {chosen.slide}: set DIRL_DATA, or name one with --slide")
    mpp = open_slide(chosen.slide).info.mpp
    laid = Laid(chosen.slide, mpp, chosen.stride)
    results = {
        model: measure(model, laid, chosen.slide, mpp, chosen.batch, chosen.rounds) for model in chosen.models
    }
    about = {
        "machine_was": "busy" if chosen.busy else "quiet",
        "threads": torch.get_num_threads(),
        "reading_threads": THREADS,
        "device": str(choose_device("auto")),
        "slide": chosen.slide.stem,
        "tiles": len(laid.found),
        "batch": chosen.batch,
    }
    print(write("embed", about | {"embed": results}))


if __name__ == "__main__":
    main()
