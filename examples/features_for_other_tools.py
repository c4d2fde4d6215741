"""Features of whole slides, in the layouts of CLAM and of Scanpy (AnnData; pip install 'dirl[anndata]').

python examples/features_for_other_tools.py uni slides/ features
"""

import sys
from pathlib import Path

import dirl


def main(
    encoder: str, slides: Path, out: Path, tools: tuple[str, ...] = ("clam", "anndata"), size_px: int = 224
) -> None:
    """Embed every tile with tissue, straight from the slides, and write the files of the other tools."""
    cut = dirl.TileConfig(mpp=0.5, size_px=size_px)
    dirl.embed(encoder, dirl.SlideFiles([slides], cut), out, baselines=False)
    for tool, place in dirl.hand_over(out, tools).items():
        print(f"{tool}: {place}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
