"""`dirl audit`: where the attention of encoders goes on the tiles of a store, with controls and a verdict."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from dirl.audit.confounder import check_enough, confounder
from dirl.audit.estimates import choose_examples, paired_difference, summarise_measures
from dirl.audit.figures import draw_figures, draw_marks, draw_trust
from dirl.audit.findings import PRIMARY, Findings
from dirl.audit.gate import Embedded, GateTiles, gate_tiles, gates
from dirl.audit.passes import pass_over
from dirl.audit.report import leaderboard_csv, render_page
from dirl.audit.subjects import make_subjects, name_encoders, with_untrained
from dirl.audit.summary import AuditSummary
from dirl.audit.table import SCHEMA
from dirl.audit.tiles import AuditTiles, draw_tiles
from dirl.audit.trust import TILES as CHANGED
from dirl.audit.trust import trust
from dirl.audit.verdict import leaderboard, word_verdict
from dirl.config import AuditConfig
from dirl.core.card import new_card
from dirl.core.device import choose_device
from dirl.core.files import replacing, write_text
from dirl.core.intervals import choose_units
from dirl.core.progress import bar
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess, warn_resolution
from dirl.evaluate.common.records import Resampling
from dirl.store.dataset import TileStore


def audit(
    encoders: Sequence[str],
    store: Path,
    out: Path,
    config: AuditConfig | None = None,
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
    config = config or AuditConfig()
    opened = TileStore.open(store)
    tiles = draw_tiles(opened, opened.cells(config.cells), config.tiles, config.seed)
    loaded = name_encoders([load_encoder(spec, device=choose_device(device)) for spec in encoders])
    for one in loaded:
        warn_resolution(one, opened.spec.size_px, opened.spec.mpp)
    for one in loaded:  # refused before the directory is claimed
        attention_rows(one.model, preprocess(one, tiles.read(tiles.indices[:1]).images))
    runs = [one.run for one in loaded if one.run is not None]
    views = gate_tiles(opened, tiles.indices, runs, config.seed)
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
    pairs = with_untrained(encoders, config.seed)
    everything = make_subjects(pairs, tiles.store)
    with (
        replacing(work.out / "measures.parquet") as temporary,
        pq.ParquetWriter(temporary, SCHEMA) as writer,
        bar("Measuring attention", len(tiles) * len(everything), quiet=quiet) as advance,
    ):
        collected = [pass_over(subject, tiles, config, writer, advance) for subject in everything]
    units = choose_units(tiles.sources, len(tiles), config.bootstrap, config.seed)
    embedded = [
        Embedded(subject.encoder, one.embeddings)
        for subject, one in zip(everything, collected, strict=True)
        if one.embeddings is not None
    ]
    with bar("Gate", views.count, quiet=quiet) as advance:
        passed = gates(pairs, views, embedded, config.bootstrap, advance)
    first, *others = collected[: len(encoders)]
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
        interval=Resampling.of(units),
        encoders=[summarise_measures(one, units, tiles.sources) for one in collected],
        gates=passed,
        differences=[paired_difference(first, other, units) for other in others],
    )
    chosen = choose_examples([first, *others], config.figures)
    by_name = {one.facts.name: one for one in collected}
    with bar("Changing tiles", min(CHANGED, len(tiles)) * len(encoders), quiet=quiet) as advance:
        controls = [by_name[str(one.facts.control)] for one in [first, *others]]
        trusted = trust(encoders, [first, *others], controls, tiles, units, config.seed, advance)
    with bar("Drawing figures", None, quiet=quiet) as advance:
        drawn = draw_figures(found, [first, *others], tiles, chosen, advance)
        figures = dict(drawn.figures) | {"trust": draw_trust(trusted)}
    summary = AuditSummary(
        **dict(found),
        leaderboard=leaderboard(found),
        verdict=word_verdict(found),
        examples_rule=drawn.rule,
        examples=drawn.tiles,
        strip=drawn.middle,
        trust=tuple(trusted),
    )
    if config.confounder:
        with bar("Planted mark", len(tiles) // 2 * len(encoders), quiet=quiet) as advance:
            marked = confounder(encoders, [first, *others], tiles, config.bootstrap, config.seed, advance)
        summary = summary.model_copy(update={"confounder": marked.summary})
        figures["confounder"] = {"png": draw_marks([first, *others], tiles, marked)}
    _write(work, summary, figures)
    return summary


def _write(work: Work, summary: AuditSummary, figures: dict[str, dict[str, bytes]]) -> None:
    for name, kinds in figures.items():
        for kind, data in kinds.items():
            with replacing(work.out / "figures" / f"{name}.{kind}") as temporary:
                temporary.write_bytes(data)
    write_text(work.out / "leaderboard.csv", leaderboard_csv(summary))
    inline = {
        name: ("svg", kinds["svg"]) if "svg" in kinds else ("png", kinds["png"])
        for name, kinds in figures.items()
    }
    card = replace(work.card, counts=summary.counts)
    write_text(work.out / "report.html", render_page(summary, card, inline))
