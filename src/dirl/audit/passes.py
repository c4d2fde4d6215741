"""The passes of an encoder or control over the audited tiles. All else of an audit reads what they return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.audit.findings import PRIMARY, SubjectFacts
from dirl.audit.spread import entropy_of_middles
from dirl.audit.subjects import Subject
from dirl.audit.table import COLUMNS, measure, to_arrow
from dirl.audit.tiles import AuditTiles, batch_weights, class_shares
from dirl.config import AuditConfig
from dirl.features.pooling import region_shares

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class TileMeasures:
    """What one pass over the tiles gave of an encoder or control.

    Attributes
    ----------
    min_area
        A tile counts in the enrichment of a region that covers at least this share of it.
    views : array of shape (t, l, 2, columns)
        The measures of `table.measure` by block: 0 is their mean over heads, 1 is that of the joint map.
    entropies : array of shape (t, l, a)
        The primary measure of each head.
    areas : array of shape (t, 3)
        Share of each tile that each region covers.
    nuclei : array of shape (t, n)
        Share of each token that nuclei cover.
    tissue : array of shape (t, n)
        Share of each token that tissue covers, nuclei included.
    classes : array of shape (c, t, n)
        Share of each token that nuclei of each of `AuditTiles.classes` cover.
    attention : Tensor of shape (t, a, gh, gw)
        The last block's attention on the patch tokens.
    embeddings : Tensor of shape (t, d)
        None of uniform attention.
    rollouts : Tensor of shape (t, gh, gw)
        None unless whole matrices are measured.
    training : array of shape (t,)
        See `Audited.entropy_training`; None if it is.
    """

    facts: SubjectFacts
    min_area: float
    views: Floats
    entropies: Floats
    areas: Floats
    nuclei: Floats
    tissue: Floats
    classes: Floats
    attention: Tensor
    embeddings: Tensor | None = None
    rollouts: Tensor | None = None
    training: Floats | None = None

    def last_block(self) -> Floats:
        """Values of the last block, shape (t, view, columns)."""
        return self.views[:, -1].astype(np.float64)


def pass_over(
    subject: Subject,
    tiles: AuditTiles,
    config: AuditConfig,
    writer: pq.ParquetWriter,
    advance: Callable[..., None],
) -> TileMeasures:
    """Run an encoder or control once over all tiles, and write the measures of each tile.

    `advance` is called with the number of tiles that were processed.
    """
    parts: list[TileMeasures] = []
    training_px, done = subject.training_px(tiles.store.spec.size_px), 0
    for batch in tiles:
        here = slice(done, done + len(batch.indices))
        done = here.stop
        rows = subject.rows(batch.images)
        covered = region_shares(subject.encoder, batch.regions)
        full = subject.full(batch.images) if config.full else None
        values = measure(
            rows,
            covered.to(rows.patches.device),
            batch_weights(subject.encoder, tiles, batch),
            full,
            subject.facts.token_um,
        )
        numbers, area = values.cpu().numpy(), covered.mean(-1).numpy()
        tile_ids, slide_ids = tiles.tile_ids[here], tiles.slide_ids[here]
        writer.write_table(to_arrow(subject.facts.name, tile_ids, slide_ids, numbers, area))
        parts.append(
            TileMeasures(
                facts=subject.facts,
                min_area=config.min_area,
                # Mean over heads of NaN columns (head diversity) stays NaN.
                views=np.stack([numbers[:, :, :-1].mean(2), numbers[:, :, -1]], axis=2),
                entropies=numbers[:, :, :-1, COLUMNS.index(PRIMARY)],
                areas=area,
                nuclei=covered[:, 0].numpy(),
                tissue=covered[:, :2].sum(1).numpy(),
                classes=class_shares(subject.encoder, tiles, batch),
                attention=rows.patches[:, -1].cpu(),
                embeddings=None if rows.embeddings is None else rows.embeddings.cpu(),
                rollouts=None if full is None else full.rollout.cpu(),
                training=None
                if training_px is None
                else entropy_of_middles(subject.encoder, batch.images, training_px),
            )
        )
        advance(len(batch.indices))
    return _join(parts)


def _join(parts: Sequence[TileMeasures]) -> TileMeasures:
    """Join the measures of batches."""
    training = [one.training for one in parts if one.training is not None]
    return replace(
        parts[0],
        views=np.concatenate([one.views for one in parts]),
        entropies=np.concatenate([one.entropies for one in parts]),
        areas=np.concatenate([one.areas for one in parts]),
        nuclei=np.concatenate([one.nuclei for one in parts]),
        tissue=np.concatenate([one.tissue for one in parts]),
        classes=np.concatenate([one.classes for one in parts], axis=1),
        attention=torch.cat([one.attention for one in parts]),
        embeddings=_joined([one.embeddings for one in parts]),
        rollouts=_joined([one.rollouts for one in parts]),
        training=np.concatenate(training) if training else None,
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
