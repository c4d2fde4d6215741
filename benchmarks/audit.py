"""The default audit over a plain forward pass, and over the usual way to get attention maps.

The usual way: fused attention off, a hook on every block, all matrices kept, and the [CLS] rows taken from
them afterwards. Time in turns in one process; memory is the peak of a separate process, minus its memory
before. Cells are those of a synthetic slide, so that all measures are computed.

The last case is `dirl audit` as a user calls it, on tiles of a synthetic slide: an encoder and its control,
gate and figures. It is related to a forward pass of the encoder over the same tiles.

python benchmarks/audit.py
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
from harness import compare, write

import dirl
from dirl.audit.table import measure
from dirl.audit.tiles import nucleus_weights
from dirl.config import AuditConfig, TileConfig
from dirl.encoders.attention import AttentionRows, attention_rows
from dirl.encoders.loading import embed_images, load_encoder
from dirl.prior.coverage import coverage
from dirl.store.dataset import TileStore
from dirl.synthetic import draw
from dirl.synthetic import write as write_slide

CASES = {
    "ViT-B/16 at 512 px, 1024 tokens": ("vit_base_patch16_224", 512, 1),
    "ViT-S/16 at 224 px, 196 tokens": ("vit_small_patch16_224", 224, 4),
}
WAYS = ("forward", "rows", "audit", "usual")
WHOLE = "dirl audit of a ViT-S/16, 64 tiles of 224 px"
WHOLE_TILES, WHOLE_PX, BATCH = 64, 224, 16


def prepare(case: str) -> dict[str, Callable[[], Any]]:
    """The ways by name: the forward pass, with the rows, with rows and all measures; and the usual way."""
    architecture, side_px, tiles = CASES[case]
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=0, img_size=side_px).eval()
    slide = draw(0, (side_px * tiles, side_px))
    images = torch.from_numpy(slide.rgb).view(side_px, tiles, side_px, 3).permute(1, 3, 0, 2)
    images = (images.float() / 127.5 - 1).contiguous()
    labels = torch.from_numpy(slide.labels).view(side_px, tiles, side_px).transpose(0, 1).contiguous()
    regions = torch.where(labels > 0, 1, 2).to(torch.uint8)
    least = torch.zeros(int(labels.max()) + 1)

    def measured(rows: AttentionRows) -> None:
        covered = coverage(regions, 2, 16).flatten(2)
        covered = torch.cat([covered, 1 - covered.sum(1, keepdim=True)], dim=1)
        measure(rows, covered, [nucleus_weights(one, 16, least) for one in labels])

    @torch.no_grad()
    def usual() -> None:
        seen: list[torch.Tensor] = []
        hooks = []
        blocks: Any = model.blocks
        for block in blocks:
            block.attn.fused_attn = False
            hooks.append(block.attn.attn_drop.register_forward_hook(lambda *call: seen.append(call[-1])))
        model(images)
        for block, hook in zip(blocks, hooks, strict=True):
            block.attn.fused_attn = True
            hook.remove()
        rows = torch.stack([matrix[:, :, 0] for matrix in seen], dim=1)
        patches = rows[..., 1:].reshape(*rows.shape[:-1], side_px // 16, side_px // 16)
        measured(AttentionRows(patches, rows[..., 0], torch.zeros_like(rows[..., 0])))

    return {
        "forward": torch.no_grad()(lambda: model(images)),
        "rows": lambda: attention_rows(model, images),
        "audit": lambda: measured(attention_rows(model, images)),
        "usual": usual,
    }


def peak_mib(case: str, way: str) -> float:
    """Peak of memory while a process does it once, less what it held before (Linux)."""
    command = [sys.executable, __file__, "--peak", case, way]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def whole_audit(rounds: int) -> dict[str, Any]:
    """Time a whole audit of an encoder with its control over one forward pass over its tiles."""
    side = 9 * WHOLE_PX
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(folder / "synthetic.tiff", 0, (side, side))
        dirl.tile(
            [folder / "synthetic.tiff"],
            folder / "store",
            TileConfig(size_px=WHOLE_PX, min_tissue=0),
            quiet=True,
        )
        dirl.cells(folder / "store", quiet=True)
        torch.save(timm.create_model("vit_small_patch16_224").state_dict(), folder / "weights.pth")
        spec = f"timm:vit_small_patch16_224,weights={folder / 'weights.pth'}"
        store, encoder = TileStore.open(folder / "store"), load_encoder(spec)
        images = torch.from_numpy(np.stack([store.image(i) for i in range(WHOLE_TILES)])).permute(0, 3, 1, 2)
        config, count = AuditConfig(tiles=WHOLE_TILES), iter(range(10**6))

        def audited() -> None:
            dirl.audit([spec], store.path, folder / f"audit-{next(count)}", config, device="cpu", quiet=True)

        def forward() -> None:
            for few in torch.split(images, BATCH):
                embed_images(encoder, few)

        timed = compare(WHOLE, {"forward": forward, "audit": audited}, rounds, count=WHOLE_TILES, unit="tile")
    cpu = {way: timed["ways"][way]["cpu_seconds"]["median"] for way in ("forward", "audit")}
    return {
        "tiles": WHOLE_TILES,
        "over_forward": timed,
        "cpu_seconds_by_those_of_forward": cpu["audit"] / cpu["forward"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=[*CASES, WHOLE], default=[*CASES, WHOLE])
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "WAY"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.peak:
        ways = prepare(chosen.peak[0])
        Path("/proc/self/clear_refs").write_text("5")  # the peak of making the model is forgotten
        before = kib("VmRSS")
        ways[chosen.peak[1]]()
        print((kib("VmHWM") - before) / 1024)
        return
    results: dict[str, Any] = {}
    for case in [one for one in chosen.cases if one != WHOLE]:
        tiles = CASES[case][2]
        memory = {way: peak_mib(case, way) for way in WAYS}
        ways = prepare(case)
        results[case] = {
            "tiles": tiles,
            "peak_mib_above_the_model": memory,
            "over_forward": compare(
                case, {way: ways[way] for way in WAYS}, chosen.rounds, count=tiles, unit="tile"
            ),
            "memory_of_audit_by_forward": memory["audit"] / memory["forward"],
            "memory_of_usual_by_audit": memory["usual"] / memory["audit"],
        }
        # Of the process's own seconds: those of the clock depend on what else the machine does.
        timed = results[case]["over_forward"]["ways"]
        cpu = {way: timed[way]["cpu_seconds"]["median"] for way in WAYS}
        results[case]["cpu_seconds_by_those_of_forward"] = {way: cpu[way] / cpu["forward"] for way in WAYS}
        results[case]["cpu_seconds_of_usual_by_those_of_audit"] = cpu["usual"] / cpu["audit"]
    if WHOLE in chosen.cases:
        results[WHOLE] = whole_audit(chosen.rounds)
    print(write("audit", {"threads": torch.get_num_threads(), "audit": results}))


if __name__ == "__main__":
    main()
