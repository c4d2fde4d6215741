"""Controls of an audit: untrained encoders, and uniform attention."""

from collections.abc import Sequence

import torch

from dirl.encoders.attention import AttentionRows
from dirl.encoders.loading import LoadedEncoder


def uniform_rows(tiles: int, grid: tuple[int, int]) -> AttentionRows:
    """Attention that is the same on every patch token: every measure of spread is perfect, and empty."""
    patches = torch.full((tiles, 1, 1, *grid), 1 / (grid[0] * grid[1]))
    nothing = torch.zeros(tiles, 1, 1)
    return AttentionRows(patches=patches, cls=nothing, registers=nothing)


def untrained(encoders: Sequence[LoadedEncoder], seed: int) -> list[tuple[LoadedEncoder, LoadedEncoder]]:
    """Pair each encoder with its architecture, freshly initialised.

    Encoders of one architecture share one control. An encoder with random weights is its own control, and
    that of all others of its architecture.

    Returns
    -------
    list of (encoder, control)
        In the order of `encoders`.
    """
    controls = {_architecture(encoder): encoder for encoder in encoders if encoder.random}
    pairs = []
    for encoder in encoders:
        key = _architecture(encoder)
        if key not in controls:
            controls[key] = encoder.randomised(seed)
        pairs.append((encoder, controls[key]))
    return pairs


def _architecture(encoder: LoadedEncoder) -> str:
    return f"{encoder.architecture} {sorted(encoder.arguments.items())} {encoder.input_px}"
