"""The attention of an encoder over a whole slide, and a script that shows it in QuPath.

python examples/map_to_qupath.py uni slide.svs map
"""

import sys
from pathlib import Path

import dirl


def main(encoder: str, slide: Path, out: Path, size_px: int = 224) -> None:
    """Map the attention; in QuPath, open the slide, then run the script that is printed."""
    config = dirl.MapConfig(mpp=0.5, size_px=size_px)
    dirl.map_slide(encoder, slide, out, config, to="qupath")
    print(*sorted(out.glob("*.groovy")), *sorted(out.glob("*.tif*")), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
