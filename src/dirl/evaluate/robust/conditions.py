"""The conditions under which tiles are embedded: clean, corruptions by severity, angles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

from dirl.config import RobustConfig
from dirl.config.stages import Damage
from dirl.core.randomness import hashes
from dirl.evaluate.robust.corruptions import corrupt

Image = NDArray[np.uint8]

ConditionKind = Literal["clean", Damage]
CLEAN: Final = "clean"
ROTATION: Final = "rotation"
ANGLES = tuple(range(0, 360, 30))
GLASS = 255


@dataclass(frozen=True)
class Condition:
    """What is done to a tile.

    Attributes
    ----------
    kind
        What damages it, or ``clean``.
    level
        Severity, or angle in degrees; 0 for the undamaged tile.
    """

    kind: ConditionKind
    level: int = 0

    def __str__(self) -> str:
        return f"{self.kind}-{self.level}"

    @property
    def base(self) -> "Condition":
        """The condition to compare with: the clean tile, or its disc at 0°."""
        return Condition(ROTATION if self.kind == ROTATION else CLEAN)

    def apply(self, image: Image, tile_id: str, seed: int) -> Image:
        """Return the tile ``(h, w, 3)`` under this condition; chance is keyed by kind, tile, seed."""
        if self.kind == CLEAN:
            return image
        if self.kind == ROTATION:
            return rotate(image, self.level)
        generator = np.random.default_rng(hashes(seed, [f"{self.kind} {tile_id}"]))
        return corrupt(image, self.kind, self.level, generator)


def damage_levels(kind: Damage, severities: Sequence[int]) -> Sequence[int]:
    """Return the levels of a kind of damage: the severities, or all angles except 0°."""
    return ANGLES[1:] if kind == ROTATION else severities


def conditions(config: RobustConfig) -> tuple[Condition, ...]:
    """List the clean tile, every chosen corruption at every severity, and every angle."""
    return (
        Condition(CLEAN),
        *(Condition(kind, level) for kind in config.corruptions for level in config.severities),
        *(Condition(ROTATION, angle) for angle in ANGLES if ROTATION in config.damage),
    )


def rotate(image: Image, angle: int) -> Image:
    """Turn a tile (h, h, 3) counter-clockwise by degrees, and fill its corners beyond the disc with glass.

    Only the inscribed disc is visible at any angle. At multiples of 90° no pixel is interpolated, so only the
    angle affects an encoder. At other angles a slight blur affects it, too.
    """
    turns, rest = divmod(angle, 90)
    if rest:
        turned = np.asarray(Pictures.fromarray(image).rotate(angle, Pictures.Resampling.BICUBIC))
    else:
        turned = np.rot90(image, turns)
    side = image.shape[0]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where((np.hypot(y, x) <= side / 2)[..., None], turned, np.uint8(GLASS))
