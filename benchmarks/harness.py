"""What every benchmark here shares: the machine, versions, side-by-side timing, and the JSON it writes."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "dirl",
    "numpy",
    "pyarrow",
    "pillow",
    "simplejpeg",
    "scipy",
    "scikit-image",
    "torch",
    "timm",
    "lightly",
    "openslide-python",
    "torchvision",
    "lazyslide",
    "wsidata",
)


def compare(
    name: str, ways: Mapping[str, Callable[[], Any]], repeats: int = 9, *, count: int = 1, unit: str = "item"
) -> dict[str, Any]:
    """Time several ways of doing the same, in turns, so that what the machine does besides hits all alike.

    Parameters
    ----------
    name
        What is done.
    ways
        Each way's name and function; the first is what the others are related to.
    repeats
        Rounds, after one that is not counted.
    count, unit
        How many of what one call does.

    Returns
    -------
    dict
        For each way: the spread of its seconds, the CPU seconds, and the rates by both. For all but the
        first also the spread, over rounds, of its seconds divided by those of the first.
    """
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(repeats + 1):
        for way in list(ways) if round_ % 2 else list(reversed(tuple(ways))):
            started, worked = time.perf_counter(), time.process_time()
            ways[way]()
            if round_:
                wall[way].append(time.perf_counter() - started)
                cpu[way].append(time.process_time() - worked)
    first, *others = ways
    result = {
        "name": name,
        "repeats": repeats,
        "ways": {
            way: {
                "seconds": _spread(wall[way]),
                "cpu_seconds": _spread(cpu[way]),
                f"{unit}s_per_second": count / statistics.median(wall[way]),
                f"{unit}s_per_cpu_second": count / statistics.median(cpu[way]),
            }
            for way in ways
        },
        f"seconds_by_those_of_{first}": {
            way: _spread([a / b for a, b in zip(wall[way], wall[first], strict=True)]) for way in others
        },
    }
    print(json.dumps(result, indent=2))
    return result


def write(name: str, results: Mapping[str, Any]) -> Path:
    """Write results with date, machine and versions to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    whole = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        **results,
    }
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What the benchmark ran on: no names, only what bears on speed."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line),
            cpu,
        )
    return {
        "system": platform.system(),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_1min": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of what is installed of the packages that bear on speed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartile_1": low, "quartile_3": high, "min": min(values), "max": max(values)}
