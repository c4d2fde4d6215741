"""Where does an encoder look? An audit on some tiles of your slides, beside the same encoder untrained.

python examples/audit_your_encoder.py uni slides/ audit
"""

import sys
from pathlib import Path

import dirl


def main(encoder: str, slides: Path, out: Path, tiles: int = 256, size_px: int = 224) -> None:
    """Draw tiles, find their nuclei, and audit. The report is a page; the summary holds its numbers."""
    cut = dirl.TileConfig(mpp=0.5, size_px=size_px)
    found = dirl.audit_slides([encoder], [slides], out, dirl.AuditConfig(tiles=tiles), cut=cut)
    print(found.summary.verdict.headline)
    for one in found.summary.encoders:
        on_nuclei = one.enrichment.joint["nuclei"].value
        print(f"{one.name}: attention on nuclei, log2 to uniform: {on_nuclei:+.2f}")
    print(out / "report.html")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
