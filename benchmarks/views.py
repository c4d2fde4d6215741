"""Views of a batch: dirl, all tiles at once, over torchvision's transforms, tile by tile (images only).

python benchmarks/views.py
"""

import numpy as np
import torch
from harness import compare, write
from torchvision.transforms import v2

from dirl.config import ViewsConfig
from dirl.prior.matching import coverage_in
from dirl.views.batch import make_views

TILES, TILE_PX, VIEW_PX = 64, 128, 96


def main() -> None:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (TILES, 3, TILE_PX, TILE_PX), dtype=np.uint8))
    regions = torch.from_numpy(generator.integers(0, 3, (TILES, TILE_PX, TILE_PX), dtype=np.uint8))
    config, samples = ViewsConfig(size_px=VIEW_PX), np.arange(TILES)
    # The same operations, with the same chances.
    one_by_one = v2.Compose(
        [
            v2.RandomResizedCrop(VIEW_PX, scale=config.crop_area, ratio=config.crop_aspect, antialias=True),
            v2.RandomHorizontalFlip(config.p_flip),
            v2.ToDtype(torch.float32, scale=True),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, config.hue_jitter)], config.p_colour),
            v2.RandomGrayscale(config.p_grayscale),
            v2.RandomApply([v2.GaussianBlur(11, config.blur_sigma_px)], config.p_blur),
        ]
    )
    ways = {
        "torchvision, one by one, images only": lambda: [
            one_by_one(i) for i in images for _ in range(config.count)
        ],
        "ours, images only": lambda: make_views(images, samples, config, seed=0)[0],
        "ours, with coverage": lambda: coverage_in(
            regions, make_views(images, samples, config, seed=0)[0], 2, 12
        ),
    }
    write("views", {"views": compare("views", ways, count=TILES * config.count, unit="view")})


if __name__ == "__main__":
    main()
