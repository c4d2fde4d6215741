"""Show that a change of form changes no result: run the commands of two checkouts and compare their files.

`python benchmarks/golden.py OLD NEW`, with two checkouts of this repository. Each runs the same commands on a
drawn slide, in a process of its own. Numbers, arrays, weights and pictures must be equal. `RENAMED` lists the
keys and names that changed. Texts may differ: `--texts` lists them. `--old DIR` reuses the outputs of OLD.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Old name -> new name, of keys of JSON, columns of tables, and values that are identifiers.
RENAMED: dict[str, str] = {
    "aside": "validation",
    "floor": "baseline",
    "floors": "baselines",
    "standing_out": "outliers",
}
# Old -> new, of words of the commands below.
RESPELLED: dict[str, str] = {}

ENCODER = (
    "encoder.name=vit_tiny_patch16_224,encoder.patch_px=8,encoder.width=32,encoder.depth=2,encoder.heads=2"
)
SMALL = f"steps=6,batch=8,checkpoint_every_steps=3,log_every_steps=1,views.size_px=32,{ENCODER}"
WIDTHS = "objective.hidden_width=16,objective.output_width=8"
COMMANDS = f"""
tile slides --out store --size 64 --min-tissue 0.3
cells store
cells-report store --out cells-report --tiles 2
cells-score store/cells/hematoxylin store/cells/hematoxylin --out cells-score
cells-export store --out geojson
pretrain demo --store store --out vanilla --set dense.weight=0,{SMALL},{WIDTHS}
pretrain demo --store store --out dense --set {SMALL},{WIDTHS}
pretrain demo --store store --out pool --set dense.extract=pool,dense.regions=cells,{SMALL},{WIDTHS}
pretrain demo --store store --out shuffled --set dense.control=shuffled,{SMALL},{WIDTHS}
pretrain demo --store store --out grid --set dense.control=grid,{SMALL},{WIDTHS}
pretrain cpu-moco --store store --out moco --set {SMALL}
pretrain cpu-byol --store store --out byol --set {SMALL}
pretrain cpu-vicreg --store store --out vicreg --set {SMALL}
pretrain cpu-dino --store store --out dino --set {SMALL}
pretrain cpu-dinov2 --store store --out dinov2 --set {SMALL}
embed dense --store store --out features
embed vanilla --store store --out others --cells hematoxylin
probe features --labels labels.csv --out probe --folds 2
probe others --labels labels.csv --out probe2 --folds 2
finetune dense --store store --labels labels.csv --out finetune --folds 2 --epochs 1 --tiles 40
robust dense --store store --labels labels.csv --out robust --tiles 40 --folds 2 --severity 3
compare probe probe2 --out compare
audit vanilla dense --store store --out audit --tiles 12 --full
map dense slides/a.tif --out map --size 64 --heads each
mil bags --labels bags/slides.csv --out mil --folds 3 --inner-folds 2 --epochs 2 --model mean --model abmil
export dense --to timm --out timm
"""
# What may differ between two runs: when they ran and for how long, and digests of files that hold such times.
PASSING = {"started", "git_commit", "finished", "seconds", "seconds_mean", "seconds_sd"}
PASSING |= {"files", "digest_of_card", "sha256", "inputs", "version", "versions"}
SKIPPED = {".html", ".md", ".log", ".lock", ".png"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--keep", type=Path, help="keep the outputs of both there; outputs that exist are used"
    )
    parser.add_argument("--texts", action="store_true", help="list the texts that differ")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        return run_all(given.new)
    with tempfile.TemporaryDirectory(prefix="dirl-golden-") as scratch:
        kept = given.keep or Path(scratch)
        for side in ("old", "new"):
            folder = kept / side
            if not (folder / "done").exists():
                folder.mkdir(parents=True, exist_ok=True)
                record(getattr(given, side).resolve(), folder, respelled=side == "new")
        return compare(kept / "old", kept / "new", texts=given.texts)


def record(checkout: Path, folder: Path, *, respelled: bool) -> None:
    """Run every command of a checkout in a folder."""
    command = [sys.executable, __file__, "--run", str(checkout), "new" if respelled else "old"]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    (folder / "done").touch()


def run_all(side: Path) -> int:
    """Run the commands here, in this process, since a start of the program takes seconds."""
    from dirl.cli.main import main as program

    make_inputs(Path())
    for line in COMMANDS.strip().splitlines():
        words = list(expand(line.split()))
        if str(side) == "new":
            words = [RESPELLED.get(word, word) for word in words]
        if words[0] not in (
            "compare",
            "cells-report",
            "cells-export",
            "export",
            "tile",
            "cells",
            "cells-score",
            "probe",
        ):
            words += ["--device", "cpu"]
        if words[0] not in ("compare", "export"):
            words += ["--quiet"]
        sys.argv = ["dirl", *words]
        code = 0
        try:
            program()
        except SystemExit as left:
            code = int(left.code or 0)
        except BaseException:
            traceback.print_exc()
            code = 1
        print("ok  " if code == 0 else f"FAILED with {code}: ", line[:100], flush=True)
    return 0


def expand(words: list[str]) -> Iterator[str]:
    """Write `--set a=1,b=2` as an option for each."""
    for word in words:
        if "=" in word and "," in word:
            first, *others = word.split(",")
            yield first
            for other in others:
                yield from ("--set", other)
        else:
            yield word


def make_inputs(folder: Path) -> None:
    import h5py
    import numpy as np

    from dirl import synthetic

    (folder / "slides").mkdir()
    for seed, name in enumerate("abcd"):
        synthetic.write(folder / "slides" / f"{name}.tif", seed=seed, size_px=(512, 512))
    labels = ("benign", "tumour", "benign", "tumour")
    rows = [f"{name},{label}" for name, label in zip("abcd", labels, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["slide_id,label", *rows]) + "\n")
    (folder / "bags").mkdir()
    generator = np.random.default_rng(0)
    rows = ["slide_id,label,patient_id"]
    for i in range(24):
        count = int(generator.integers(6, 14))
        with h5py.File(folder / "bags" / f"s{i:02d}.h5", "w") as handle:
            handle["features"] = generator.normal(size=(count, 5)).astype(np.float32)
            handle["coords"] = np.stack([224 * np.arange(count), np.full(count, 448)], axis=1)
        rows.append(f"s{i:02d},{('benign', 'tumour')[i % 2]},p{i % 2 * 6 + i // 2 % 6}")
    (folder / "bags" / "slides.csv").write_text("\n".join(rows) + "\n")


def compare(old: Path, new: Path, *, texts: bool) -> int:
    """Compare two folders, and say what differs."""
    mine, others = ({str(p.relative_to(each)): p for p in files(each)} for each in (old, new))
    renamed = {rename(place): path for place, path in mine.items()}
    wrong, worded, equal = [], [], 0
    for place in sorted(renamed.keys() | others.keys()):
        if place not in renamed or place not in others:
            wrong.append(f"{place}: only in {'old' if place in renamed else 'new'}")
            continue
        before, after = flat(renamed[place], old=True), flat(others[place], old=False)
        differ = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        of_text = [key for key in differ if is_text(before.get(key)) and is_text(after.get(key))]
        worded += [f"{place} {key}: {before[key]!r} -> {after[key]!r}" for key in of_text]
        rest = sorted(set(differ) - set(of_text))
        wrong += [f"{place} {key}: {before.get(key)!r:.120} -> {after.get(key)!r:.120}" for key in rest]
        equal += not rest
    if texts:
        print(*worded, sep="\n")
    print(*wrong[:80], sep="\n")
    print(f"{equal} files hold the same, {len(wrong)} differences, {len(worded)} texts differ")
    return int(bool(wrong))


def files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") or part == "tensorboard" for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix not in SKIPPED and path.name != "done":
            yield path


def flat(path: Path, *, old: bool) -> dict[str, Any]:
    """Return what a file holds as places and values."""
    if path.suffix in (".json", ".geojson"):
        return dict(leaves(json.loads(path.read_text()), "", old))
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text())))
        return dict(leaves(rows, "", old))
    if path.suffix in (".yaml", ".tsv", ".txt"):
        return {
            f"line {i}": rename(line) if old else line for i, line in enumerate(path.read_text().splitlines())
        }
    if path.suffix == ".h5":
        return dict(datasets(path))
    if path.suffix == ".ckpt":
        import torch

        return dict(leaves(torch.load(path, map_location="cpu", weights_only=True), "", old))
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return dict(leaves(pq.read_table(path).to_pydict(), "", old))
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return {key: hashlib.sha256(value.tobytes()).hexdigest() for key, value in load_file(path).items()}
    return {"bytes": path.read_bytes()}


def leaves(value: Any, place: str, old: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in PASSING:
                yield from leaves(each, f"{place}.{rename(str(key)) if old else key}", old)
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            yield from leaves(each, f"{place}[{i}]", old)
    elif isinstance(value, str):
        yield place, rename(value) if old else value
    elif hasattr(value, "numpy"):
        yield place, hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    else:
        yield place, "nan" if value != value else value


def datasets(path: Path) -> Iterator[tuple[str, str]]:
    import h5py

    found: list[tuple[str, str]] = []
    with h5py.File(path) as handle:
        handle.visititems(
            lambda name, item: (
                found.append((name, hashlib.sha256(repr(item[()].tolist()).encode()).hexdigest()))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    yield from found


def rename(text: str) -> str:
    if text in RENAMED:
        return RENAMED[text]
    return re.sub(r"[A-Za-z_-]+", lambda word: RENAMED.get(word[0], word[0]), text)


def is_text(value: Any) -> bool:
    """Tell a sentence or a word from a number: words may change, numbers may not."""
    return isinstance(value, str) and not re.fullmatch(r"[\s\d.eE+-]*|[0-9a-f]{16,}", value)


if __name__ == "__main__":
    sys.exit(main())
