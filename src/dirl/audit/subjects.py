"""What an audit measures: encoders, and their controls: untrained encoders, and uniform attention."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dirl.audit.findings import SubjectFacts, SubjectKind
from dirl.audit.full import FullAttention, full_attention, uniform_full
from dirl.core.errors import ConfigError
from dirl.encoders.attention import CLS, MEAN_PATCH, POOLING, AttentionRows, anatomy, attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.pretrain.read_run import read_recipe
from dirl.store.dataset import TileStore

CONTROLS: tuple[SubjectKind, ...] = ("untrained", "uniform")


@dataclass(frozen=True)
class Subject:
    """An encoder or one of its controls."""

    encoder: LoadedEncoder
    facts: SubjectFacts

    def training_px(self, tile_px: int) -> int | None:
        """Side of the views that a run was trained with; None if it is no run, or if tiles are smaller."""
        if self.facts.kind != "encoder" or self.encoder.run is None:
            return None
        side = read_recipe(self.encoder.run).views.size_px
        return side if self.encoder.input_px is None and side <= tile_px else None

    def rows(self, images: Tensor) -> AttentionRows:
        """Attention rows and embeddings on images (t, 3, h, w), uint8, of one forward pass."""
        if self.facts.kind == "uniform":
            return uniform_rows(len(images), self.encoder.token_grid(images.shape[-1]))
        return encoder_rows(self.encoder, images)

    def full(self, images: Tensor) -> FullAttention:
        """Measures of the whole attention matrices on images (t, 3, h, w), uint8."""
        if self.facts.kind == "uniform":
            return uniform_full(len(images), self.encoder.token_grid(images.shape[-1]))
        return full_attention(self.encoder.model, preprocess(self.encoder, images))


def encoder_rows(encoder: LoadedEncoder, images: Tensor) -> AttentionRows:
    """Attention rows and embeddings of an encoder on images (t, 3, h, w), uint8, of one forward pass."""
    return attention_rows(encoder.model, preprocess(encoder, images), encoder.embed)


def name_encoders(encoders: Sequence[LoadedEncoder]) -> list[LoadedEncoder]:
    """Replace a name that is not unique, or is a control's, by the spec; refuse the same encoder twice."""
    names = Counter([*CONTROLS, *(one.name for one in encoders)])
    named = [replace(one, name=one.spec) if names[one.name] > 1 else one for one in encoders]
    twice = [n for n, count in Counter([*CONTROLS, *(one.name for one in named)]).items() if count > 1]
    if twice or not encoders:
        reason = "named twice" if twice else "no encoder named"
        raise ConfigError(reason, where=twice[0] if twice else "ENCODER", remedy="name different encoders")
    return named


def make_subjects(pairs: Sequence[tuple[LoadedEncoder, LoadedEncoder]], tiles: TileStore) -> list[Subject]:
    """Encoders, then their controls, each once: untrained by architecture, uniform by token grid.

    An encoder with random weights is its own control, and is not listed again.
    """
    asked = {one.name for one, _ in pairs}
    kinds = {control.name: control for _, control in pairs if control.name not in asked}
    names = {name: "untrained" if len(kinds) == 1 else name for name in kinds}
    subjects = [
        _subject(one, one.name, "encoder", tiles, names.get(against.name, against.name))
        for one, against in pairs
    ]
    subjects += [_subject(one, names[name], "untrained", tiles) for name, one in kinds.items()]
    grids = {one.token_grid(tiles.spec.size_px): one for one, _ in pairs}
    for (rows, columns), one in grids.items():
        name = "uniform" if len(grids) == 1 else f"uniform, {rows} × {columns}"
        subjects.append(_subject(one, name, "uniform", tiles))
    return subjects


def _subject(
    encoder: LoadedEncoder,
    name: str,
    kind: SubjectKind,
    tiles: TileStore,
    control: str | None = None,
) -> Subject:
    query = anatomy(encoder.model).query
    pooled = query == CLS and getattr(encoder.model, "global_pool", "token") != "token"
    notes = {
        CLS: ("its embedding pools the patch tokens; audited is the [CLS] token's attention",) * pooled,
        POOLING: ("it has no class token; audited is the query that pools its tokens after the last block",),
        MEAN_PATCH: (
            "it has no class token and averages its patch tokens; audited is the mean row of their "
            "queries, which is spread more evenly than any of them",
        ),
    }
    uniform = kind == "uniform"
    facts = SubjectFacts(
        name=name,
        kind=kind,
        spec=None if uniform else encoder.spec,
        digest=None if uniform else encoder.digest,
        run=None if encoder.run is None else str(encoder.run),
        control=control,
        query=None if uniform else query,
        patch_px=encoder.patch_px,
        input_px=encoder.input_px,
        token_um=encoder.token_um(tiles.spec.size_px, tiles.spec.mpp),
        grid=encoder.token_grid(tiles.spec.size_px),
        notes=notes[query] if kind == "encoder" else (),
    )
    return Subject(encoder, facts)


def uniform_rows(tiles: int, grid: tuple[int, int]) -> AttentionRows:
    """Attention that is the same on every patch token: every measure of spread is perfect, and empty."""
    patches = torch.full((tiles, 1, 1, *grid), 1 / (grid[0] * grid[1]))
    nothing = torch.zeros(tiles, 1, 1)
    return AttentionRows(patches=patches, cls=nothing, registers=nothing)


def with_untrained(encoders: Sequence[LoadedEncoder], seed: int) -> list[tuple[LoadedEncoder, LoadedEncoder]]:
    """Pair each encoder with its architecture, freshly initialised.

    Encoders of one architecture share one control. An encoder with random weights is its own control, and
    that of all others of its architecture.
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
