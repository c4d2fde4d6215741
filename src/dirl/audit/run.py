"""`dirl audit`: where the attention of encoders goes on the tiles of a store, with controls and a verdict."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dirl.audit.confounder import check_enough, confounder
from dirl.audit.controls import uniform_rows, untrained
from dirl.audit.describe import Measured, compare, describe, examples
from dirl.audit.full import FullAttention, full_attention, uniform_full
from dirl.audit.gate import GateTiles, gate_tiles, gates
from dirl.audit.leaderboard import leaderboard, to_csv
from dirl.audit.pictures import draw, draw_marks
from dirl.audit.report import render
from dirl.audit.summary import AuditSummary, Facts, Findings, Kind
from dirl.audit.table import SCHEMA, measure, to_arrow
from dirl.audit.tiles import AuditTiles, TileBatch, batch_weights, draw_tiles
from dirl.audit.titles import PRIMARY
from dirl.audit.verdict import word_verdict
from dirl.config import AuditConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.errors import ConfigError
from dirl.core.files import replacing, write_text
from dirl.core.intervals import choose_units
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.attention import CLS, MEAN_PATCH, POOLING, AttentionRows, anatomy, attention_rows
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess
from dirl.evaluate.common.records import Resampling
from dirl.features.pooling import token_coverage
from dirl.store.dataset import TileStore

CONTROLS: tuple[Kind, ...] = ("untrained", "uniform")


@dataclass(frozen=True)
class Subject:
    """An encoder or one of its controls, and its measures."""

    encoder: LoadedEncoder
    measured: Measured

    @property
    def facts(self) -> Facts:
        """What it is."""
        return self.measured.facts


def audit(
    encoders: Sequence[str],
    store: Path,
    out: Path,
    config: AuditConfig,
    *,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[AuditSummary]:
    """Measure encoders on tiles of a store, beside their controls, and write the report.

    The output holds ``report.html``, ``summary.json``, ``leaderboard.csv``, ``measures.parquet``,
    ``figures/`` and ``card.json``.

    Parameters
    ----------
    encoders
        Specs as `load_encoder` takes them. The others are compared with the first.
    store
        A tile store with cells.
    out
        Directory of the audit.
    config
        Number of tiles, name of the cells, seed, and which measures.
    device
        ``auto``, or a torch device.
    overwrite
        Replace an audit of other encoders, tiles or settings.
    quiet
        Show no progress.

    Raises
    ------
    EncoderError
        If an encoder cannot be loaded, or its attention cannot be captured.
    ConfigError
        If an encoder is named twice, the device does not exist, or there are too few tiles for the planted
        mark.
    StoreError
        If the store lacks tiles or cells, or `out` holds something else.
    """
    opened = TileStore.open(store)
    tiles = draw_tiles(opened, opened.cells(config.cells), config.tiles, config.seed)
    loaded = _named([load_encoder(spec, device=choose_device(device)) for spec in encoders])
    for one in loaded:  # refused before the directory is claimed
        attention_rows(one.model, preprocess(one, tiles.read(tiles.indices[:1]).images))
    views = gate_tiles(opened, loaded, config.tiles, config.seed)
    if config.confounder:
        check_enough(tiles)
    inputs = {"store": opened.digest, "cells": tiles.cells.card.digest}
    inputs |= {f"encoder {i}: {one.name}": one.digest for i, one in enumerate(loaded)}
    settings = config.model_dump(mode="json") | {"encoders": list(encoders)}
    compute = partial(_compute, loaded, str(store), tiles, views, config, quiet)
    return carry_out(new_card("audit", settings, inputs), out, AuditSummary, compute, overwrite=overwrite)


def _compute(
    encoders: list[LoadedEncoder],
    store: str,
    tiles: AuditTiles,
    views: GateTiles,
    config: AuditConfig,
    quiet: bool,
    work: Work,
) -> AuditSummary:
    pairs = untrained(encoders, config.seed)
    subjects, controls = _subjects(pairs, tiles.store, config)
    everything = [*subjects, *controls]
    with (
        replacing(work.out / "measures.parquet") as temporary,
        pq.ParquetWriter(temporary, SCHEMA) as writer,
        bar("Measuring attention", len(tiles) * len(everything), quiet=quiet) as advance,
    ):
        for subject in everything:
            _measure(subject, tiles, writer, config.full, advance)
    units = choose_units(tiles.sources, len(tiles), config.bootstrap, config.seed)
    with bar("Gate", views.repeats, quiet=quiet) as advance:
        passed = gates(pairs, views, config.bootstrap, advance)
    found = Findings(
        store=store,
        tiles=len(tiles),
        slides=None if tiles.sources is None else len(set(tiles.sources.tolist())),
        tile_px=tiles.store.spec.size_px,
        mpp=tiles.store.spec.mpp,
        cells=config.cells,
        seed=config.seed,
        min_area=config.min_area,
        full=config.full,
        primary=PRIMARY,
        interval=Resampling(level=0.95, resamples=config.bootstrap, over=units.kind, units=len(units)),
        encoders=[describe(s.measured, units, tiles.sources) for s in everything],
        gates=passed,
        differences=[compare(subjects[0].measured, s.measured, units) for s in subjects[1:]],
    )
    chosen = examples([s.measured for s in subjects], config.figures)
    pictures = draw(found, [s.encoder for s in subjects], tiles, chosen)
    figures = dict(pictures.figures)
    summary = AuditSummary(
        **dict(found),
        leaderboard=leaderboard(found),
        verdict=word_verdict(found),
        examples_rule=pictures.rule,
        examples=pictures.tiles,
        strip=pictures.middle,
    )
    if config.confounder:
        with bar("Planted mark", len(tiles) * len(subjects), quiet=quiet) as advance:
            named = [(s.facts.name, s.encoder) for s in subjects]
            marked = confounder(named, tiles, config.bootstrap, config.seed, advance)
        summary = summary.model_copy(update={"confounder": marked.summary})
        figures["confounder"] = {"png": draw_marks([s.encoder for s in subjects], tiles, marked)}
    _write(work, summary, figures)
    return summary


def _write(work: Work, summary: AuditSummary, figures: dict[str, dict[str, bytes]]) -> None:
    for name, kinds in figures.items():
        for kind, data in kinds.items():
            with replacing(work.out / "figures" / f"{name}.{kind}") as temporary:
                temporary.write_bytes(data)
    write_text(work.out / "leaderboard.csv", to_csv(summary))
    inline = {
        name: ("svg", kinds["svg"]) if "svg" in kinds else ("png", kinds["png"])
        for name, kinds in figures.items()
    }
    card = replace(work.card, counts=summary.counts)
    write_text(work.out / "report.html", render(summary, card, inline))


def _subjects(
    pairs: Sequence[tuple[LoadedEncoder, LoadedEncoder]], tiles: TileStore, config: AuditConfig
) -> tuple[list[Subject], list[Subject]]:
    """Encoders, and their controls, each once: untrained by architecture, uniform by token grid.

    An encoder with random weights is its own control, and is not listed again.
    """
    asked = {one.name for one, _ in pairs}
    kinds = {control.name: control for _, control in pairs if control.name not in asked}
    names = {name: "untrained" if len(kinds) == 1 else name for name in kinds}
    subjects = [
        _subject(one, one.name, "encoder", tiles, config, names.get(against.name, against.name))
        for one, against in pairs
    ]
    controls = [_subject(one, names[name], "untrained", tiles, config) for name, one in kinds.items()]
    grids = {one.token_grid(tiles.spec.size_px): one for one, _ in pairs}
    for (rows, columns), one in grids.items():
        name = "uniform" if len(grids) == 1 else f"uniform, {rows} × {columns}"
        controls.append(_subject(one, name, "uniform", tiles, config))
    return subjects, controls


def _subject(
    encoder: LoadedEncoder,
    name: str,
    kind: Kind,
    tiles: TileStore,
    config: AuditConfig,
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
    facts = Facts(
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
    return Subject(encoder, Measured(facts, config.min_area))


def _measure(
    subject: Subject, tiles: AuditTiles, writer: pq.ParquetWriter, full: bool, advance: Callable[..., None]
) -> None:
    encoder, measured = subject.encoder, subject.measured
    ids = dict(zip(tiles.indices.tolist(), tiles.tile_ids.tolist(), strict=True))
    slides = dict(zip(tiles.indices.tolist(), tiles.slide_ids.tolist(), strict=True))
    for batch in tiles:
        rows = _rows(subject, batch)
        covered = token_coverage(encoder, batch.regions)
        values = measure(
            rows,
            covered.to(rows.patches.device),
            batch_weights(encoder, tiles, batch),
            _full(subject, batch) if full else None,
            measured.facts.token_um,
        )
        numbers = values.cpu().numpy()
        area = covered.mean(-1).numpy()
        measured.add(numbers, area, covered[:, 0].numpy())
        names = [np.array([known[i] for i in batch.indices.tolist()]) for known in (ids, slides)]
        writer.write_table(to_arrow(measured.facts.name, names[0], names[1], numbers, area))
        advance(len(batch.indices))


def _rows(subject: Subject, batch: TileBatch) -> AttentionRows:
    if subject.facts.kind == "uniform":
        return uniform_rows(len(batch.indices), subject.encoder.token_grid(batch.images.shape[-1]))
    return attention_rows(subject.encoder.model, preprocess(subject.encoder, batch.images))


def _full(subject: Subject, batch: TileBatch) -> FullAttention:
    if subject.facts.kind == "uniform":
        return uniform_full(len(batch.indices), subject.encoder.token_grid(batch.images.shape[-1]))
    return full_attention(subject.encoder.model, preprocess(subject.encoder, batch.images))


def _named(encoders: Sequence[LoadedEncoder]) -> list[LoadedEncoder]:
    """Replace a name that is not unique, or is a control's, by the spec; refuse the same encoder twice."""
    names = Counter([*CONTROLS, *(one.name for one in encoders)])
    named = [replace(one, name=one.spec) if names[one.name] > 1 else one for one in encoders]
    twice = [n for n, count in Counter([*CONTROLS, *(one.name for one in named)]).items() if count > 1]
    if twice or not encoders:
        reason = "named twice" if twice else "no encoder named"
        raise ConfigError(reason, where=twice[0] if twice else "ENCODER", remedy="name different encoders")
    return named
