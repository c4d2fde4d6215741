"""Pretraining: DiRL over vanilla for every objective, its memory, and vanilla over lightly's own loop.

python benchmarks/pretrain.py [--parts objectives memory lightly] [--rounds 5] [--precision bf16]

Steps are whole: read and decode tiles, views, forward, backward, clip, AdamW, teacher. Ways take turns.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from harness import compare, write
from lightly_loops import METHODS, Lightlys
from training import Ours, Place, drawn_tiles, peak_memory

from dirl.config import PretrainRecipe, make

ARMS: dict[str, dict[str, Any]] = {"vanilla": {"weight": 0.0}} | {
    extract: {"extract": extract} for extract in ("pool", "cls", "disentangle")
}
# On a CPU heads as small as the encoder asks for, on a GPU the published ones.
HEADS: dict[str, dict[str, Any]] = {
    "simclr": {"hidden_width": 512},
    "moco": {"hidden_width": 512},
    "byol": {"hidden_width": 512},
    "vicreg": {"hidden_width": 512, "output_width": 512},
    "dino": {"hidden_width": 512, "bottleneck_width": 64, "prototypes": 2048},
    "dinov2": {"hidden_width": 512, "bottleneck_width": 64, "prototypes": 2048},
}
PARTS = ("objectives", "memory", "lightly")
MULTI_CROP = ("dino", "dinov2")
SHAPES: dict[str, dict[str, Any]] = {
    "ViT-Ti/16 at 128 px": {
        "batch": 16,
        "encoder": {"name": "vit_tiny_patch16_224"},
        "views": {"size_px": 128, "local_size_px": 48},
    },
    "ViT-S/16 at 224 px": {
        "batch": 8,
        "encoder": {"name": "vit_small_patch16_224"},
        "views": {"size_px": 224, "local_size_px": 96},
    },
    "ViT-B/16 at 224 px": {
        "batch": 128,
        "encoder": {"name": "vit_base_patch16_224"},
        "views": {"size_px": 224, "local_size_px": 96},
    },
}
GPU_BATCH = 128
# Objectives and memory are measured with the first, lightly's loops with each.
ON = {
    "cpu": ("ViT-Ti/16 at 128 px", "ViT-S/16 at 224 px"),
    "cuda": ("ViT-S/16 at 224 px", "ViT-B/16 at 224 px"),
}


def make_recipe(
    shape: dict[str, Any],
    name: str,
    settings: dict[str, Any],
    views: dict[str, Any],
    arm: str = "vanilla",
) -> PretrainRecipe:
    values = {
        "views": shape["views"] | views,
        "objective": {"name": name, **settings},
        "dense": ARMS[arm],
        "optimiser": {"lr": 1e-4},
    }
    return make(PretrainRecipe, shape | values)


def arms_of(shape: dict[str, Any], device: str, name: str) -> dict[str, PretrainRecipe]:
    settings = HEADS[name] if device == "cpu" else {}
    views = {"local_count": 6} if name in MULTI_CROP else {}
    return {arm: make_recipe(shape, name, settings, views, arm) for arm in ARMS}


def objectives(shape: dict[str, Any], place: Place, rounds: int) -> dict[str, Any]:
    """Tiles per second of each objective's arms, and their time over vanilla's."""
    with drawn_tiles(shape["views"]["size_px"]) as (store, _):
        return {
            name: compare(
                f"{name}, whole steps",
                {arm: Ours(r, store, place) for arm, r in arms_of(shape, place.device, name).items()},
                rounds,
                count=shape["batch"] * place.steps,
                unit="tile",
            )
            for name in HEADS
        }


def memory(shape: dict[str, Any], place: Place) -> dict[str, Any]:
    """Peak memory of two steps of each arm, each in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training", "lightly_loops"])
    two = Place(place.device, place.bf16, 0, 2)
    with (
        drawn_tiles(shape["views"]["size_px"]) as (store, _),
        ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool,
    ):
        return {
            name: {
                arm: pool.submit(peak_memory, recipe, store, two).result()
                for arm, recipe in arms_of(shape, place.device, name).items()
            }
            for name in HEADS
        }


def lightly(shape: dict[str, Any], place: Place, rounds: int) -> dict[str, Any]:
    """Vanilla over lightly's loop, method by method, and its share of a matrix product's rate."""
    results = {}
    with drawn_tiles(shape["views"]["size_px"]) as (store, flat):
        for name, (_, settings, views) in METHODS.items():
            recipe = make_recipe(shape, name, settings, views)
            ours = Ours(recipe, store, place)
            ways: dict[str, Callable[[], Any]] = {"dirl": ours, "lightly": Lightlys(recipe, flat, place)}
            result = compare(
                f"{name}, vanilla, whole steps", ways, rounds, count=recipe.batch * place.steps, unit="tile"
            )
            flops, product = ours.flops() * place.steps, product_rate(place)
            reached = flops / result["ways"]["dirl"]["seconds"]["median"]
            results[name] = result | {
                "flops_per_step": flops / place.steps,
                "product_flops_per_second": product,
                "share_of_product": reached / product,
            }
    return results


def product_rate(place: Place, repeats: int = 9) -> float:
    """Median rate of a large square matrix product in the run's precision, in operations per second."""
    side = 8192 if place.device == "cuda" else 1536
    kind = torch.bfloat16 if place.bf16 else torch.float32
    a, b = (torch.randn(side, side, device=place.device, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        place.wait()
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / statistics.median(seconds)


def shapes(device: str, batch: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ON[device]:
        default = GPU_BATCH if device == "cuda" else SHAPES[name]["batch"]
        yield name, SHAPES[name] | {"batch": batch or default}


def main() -> None:
    on = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32 if on == "cuda" else 1, help="of each turn")
    parser.add_argument("--batch", type=int, help="instead of each model's own")
    parser.add_argument("--workers", type=int, default=16 if on == "cuda" else 0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if on == "cuda" else "fp32")
    chosen = parser.parse_args()

    place = Place(on, chosen.precision == "bf16", chosen.workers, chosen.steps)
    how = {
        "device": torch.cuda.get_device_name() if on == "cuda" else "cpu",
        "precision": chosen.precision,
        "threads": torch.get_num_threads(),
        "workers": chosen.workers,
    }
    models = dict(shapes(on, chosen.batch))
    first = next(iter(models))
    for part in chosen.parts:
        match part:
            case "objectives":
                found = {first: objectives(models[first], place, chosen.rounds)}
            case "memory":
                found = {first: memory(models[first], place)}
            case "lightly":
                found = {name: lightly(shape, place, chosen.rounds) for name, shape in models.items()}
        batches = {name: models[name]["batch"] for name in found}
        print(write(f"pretrain-{part}-{on}-{chosen.precision}", how | {"batch": batches, part: found}))


if __name__ == "__main__":
    main()
