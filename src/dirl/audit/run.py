"""`dirl audit`: where the attention of encoders goes on the tiles of a store, with controls and a verdict."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dirl.audit.confounder import check_enough, confounder
from dirl.audit.controls import uniform_rows, untrained
from dirl.audit.full import FullAttention, full_attention, uniform_full
from dirl.audit.gate import gate_tiles, gates
from dirl.audit.leaderboard import leaderboard, to_csv
from dirl.audit.pictures import draw, draw_marks
from dirl.audit.report import render
from dirl.audit.summary import KINDS, Measured, compare, describe, examples
from dirl.audit.table import SCHEMA, measure, to_arrow
from dirl.audit.tiles import AuditTiles, TileBatch, batch_weights, draw_tiles
from dirl.audit.titles import PRIMARY
from dirl.audit.verdict import judge
from dirl.config import AuditConfig
from dirl.core.checked import read_summary
from dirl.core.device import choose_device
from dirl.core.errors import ConfigError
from dirl.core.files import replacing, write_json, write_text
from dirl.core.intervals import choose_units
from dirl.core.owner import owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, finish, new_card
from dirl.encoders.attention import AttentionRows, attention_rows
from dirl.encoders.attention_capture import CLS, MEAN_PATCH, POOLING, anatomy
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess
from dirl.features.pooling import token_coverage
from dirl.store.dataset import TileStore


@dataclass(frozen=True)
class AuditResult:
    """A finished audit.

    Attributes
    ----------
    path
        Its directory: ``report.html``, ``summary.json``, ``leaderboard.csv``, ``measures.parquet``,
        ``figures/``, ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The report, one self-contained HTML file."""
        return self.path / "report.html"


@dataclass(frozen=True)
class Subject:
    """Something whose attention is measured: an encoder or one of its controls."""

    encoder: LoadedEncoder
    measured: Measured


@owning
def audit(
    encoders: Sequence[str],
    store: Path,
    out: Path,
    config: AuditConfig,
    *,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> AuditResult:
    """Measure encoders on tiles of a store, beside their controls, and write the report.

    Parameters
    ----------
    encoders
        Specs as `load_encoder` takes them. The others are compared with the first.
    store
        A tile store with cells.
    out
        Directory of the audit.
    config
        How many tiles, whose cells, which seed.
    device
        ``auto``, or a torch device.
    overwrite
        Replace an audit of other encoders, tiles or settings.
    quiet
        Show no progress.

    Raises
    ------
    EncoderError
        If an encoder cannot be loaded, or its attention cannot be had.
    StoreError
        If the store lacks tiles or cells, or `out` holds something else.
    """
    tiles = TileStore.open(store)
    chosen = draw_tiles(tiles, tiles.cells(config.cells), config.tiles, config.seed)
    loaded = _named([load_encoder(spec, device=choose_device(device)) for spec in encoders])
    for one in loaded:  # refused before the directory is claimed
        attention_rows(one.model, preprocess(one, chosen.read(chosen.indices[:1]).images))
    views = gate_tiles(tiles, loaded, config.tiles, config.seed)
    if config.confounder:
        check_enough(chosen)
    inputs = {"store": tiles.digest, "cells": chosen.cells.card.digest}
    inputs |= {f"encoder {i}: {one.name}": one.digest for i, one in enumerate(loaded)}
    settings = config.model_dump(mode="json") | {"encoders": list(encoders)}
    card = claim(out, new_card("audit", settings, inputs), overwrite=overwrite)
    if card.finished:
        return AuditResult(out, read_summary(out))

    pairs = untrained(loaded, config.seed)
    subjects, controls = _subjects(pairs, tiles, config)
    with replacing(out / "measures.parquet") as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        everything = [*subjects, *controls]
        with bar("Measuring attention", len(chosen) * len(everything), quiet=quiet) as advance:
            for subject in everything:
                _measure(subject, chosen, writer, config.full, advance)

    units = choose_units(chosen.sources, len(chosen), config.bootstrap, config.seed)
    with bar("Gate", views.repeats, quiet=quiet) as advance:
        passed = gates(pairs, views, config.bootstrap, advance)
    first = subjects[0].measured
    shown = examples([s.measured for s in subjects], config.figures)
    summary: dict[str, Any] = {
        "store": str(store),
        "tiles": len(chosen),
        "slides": None if chosen.sources is None else len(set(chosen.sources.tolist())),
        "tile_px": tiles.spec.size_px,
        "mpp": tiles.spec.mpp,
        "cells": config.cells,
        "seed": config.seed,
        "min_area": config.min_area,
        "full": config.full,
        "primary": PRIMARY,
        "interval": {
            "level": 0.95,
            "resamples": config.bootstrap,
            "over": units.kind,
            "units": len(units),
        },
        "encoders": [describe(s.measured, units, chosen.sources) for s in everything],
        "gates": {name: asdict(gate) for name, gate in passed.items()},
        "differences": [compare(first, s.measured, units) for s in subjects[1:]],
    }
    summary["leaderboard"] = leaderboard(summary)
    summary["verdict"] = asdict(judge(summary))
    images = draw(summary, [s.encoder for s in subjects], chosen, shown)
    if config.confounder:
        with bar("Planted mark", len(chosen) * len(subjects), quiet=quiet) as advance:
            named = [(s.measured.name, s.encoder) for s in subjects]
            found = confounder(named, chosen, config.bootstrap, config.seed, advance)
        summary["confounder"] = found.summary
        images["confounder"] = {"png": draw_marks([s.encoder for s in subjects], chosen, found)}
    for name, kinds in images.items():
        for kind, data in kinds.items():
            with replacing(out / "figures" / f"{name}.{kind}") as temporary:
                temporary.write_bytes(data)
    write_json(out / "summary.json", summary)
    write_text(out / "leaderboard.csv", to_csv(summary))
    done = replace(card, counts={"tiles": len(chosen), "encoders": len(loaded)})
    inline = {
        name: ("svg", kinds["svg"]) if "svg" in kinds else ("png", kinds["png"])
        for name, kinds in images.items()
    }
    write_text(out / "report.html", render(summary, done, inline))
    finish(out, card, done.counts)
    return AuditResult(out, read_summary(out))


def _subjects(
    pairs: Sequence[tuple[LoadedEncoder, LoadedEncoder]], tiles: TileStore, config: AuditConfig
) -> tuple[list[Subject], list[Subject]]:
    """Encoders, and their controls, each once: untrained by architecture, uniform by token grid.

    An encoder that is a control itself, its weights being random, is no control once more.
    """
    asked = {one.name for one, _ in pairs}
    kinds = {control.name: control for _, control in pairs if control.name not in asked}
    names = {name: "untrained" if len(kinds) == 1 else name for name in kinds}
    subjects = [
        Subject(one, Measured(one.name, "encoder", _facts(one, tiles, control), config.min_area))
        for one, against in pairs
        for control in [names.get(against.name, against.name)]
    ]
    controls = [
        Subject(one, Measured(names[name], "untrained", _facts(one, tiles, None), config.min_area))
        for name, one in kinds.items()
    ]
    grids = {one.token_grid(tiles.spec.size_px): one for one, _ in pairs}
    for (rows, columns), one in grids.items():
        name = "uniform" if len(grids) == 1 else f"uniform, {rows} × {columns}"
        facts = _facts(one, tiles, None) | {"spec": None, "digest": None, "query": None}
        controls.append(Subject(one, Measured(name, "uniform", facts, config.min_area)))
    return subjects, controls


def _facts(encoder: LoadedEncoder, tiles: TileStore, control: str | None) -> dict[str, Any]:
    query = anatomy(encoder.model).query
    pooled = query == CLS and getattr(encoder.model, "global_pool", "token") != "token"
    notes = {
        CLS: ["its embedding pools the patch tokens; audited is the [CLS] token's attention"] * pooled,
        POOLING: ["it has no class token; audited is the query that pools its tokens, behind the last block"],
        MEAN_PATCH: [
            "it has no class token and averages its patch tokens; audited is the mean row of their "
            "queries, which is spread more evenly than any of them"
        ],
    }
    return {
        "spec": encoder.spec,
        "digest": encoder.digest,
        "run": None if encoder.run is None else str(encoder.run),
        "control": control,
        "query": query,
        "patch_px": encoder.patch_px,
        "input_px": encoder.input_px,
        "token_um": encoder.token_um(tiles.spec.size_px, tiles.spec.mpp),
        "grid": list(encoder.token_grid(tiles.spec.size_px)),
        "notes": notes[query] if control is not None else [],
    }


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
            measured.facts["token_um"],
        )
        numbers = values.cpu().numpy()
        area = covered.mean(-1).numpy()
        measured.facts |= {"blocks": numbers.shape[1], "heads": numbers.shape[2] - 1}
        measured.add(numbers, area, covered[:, 0].numpy())
        names = [np.array([known[i] for i in batch.indices.tolist()]) for known in (ids, slides)]
        writer.write_table(to_arrow(measured.name, names[0], names[1], numbers, area))
        advance(len(batch.indices))


def _rows(subject: Subject, batch: TileBatch) -> AttentionRows:
    if subject.measured.kind == "uniform":
        return uniform_rows(len(batch.indices), subject.encoder.token_grid(batch.images.shape[-1]))
    return attention_rows(subject.encoder.model, preprocess(subject.encoder, batch.images))


def _full(subject: Subject, batch: TileBatch) -> FullAttention:
    if subject.measured.kind == "uniform":
        return uniform_full(len(batch.indices), subject.encoder.token_grid(batch.images.shape[-1]))
    return full_attention(subject.encoder.model, preprocess(subject.encoder, batch.images))


def _named(encoders: Sequence[LoadedEncoder]) -> list[LoadedEncoder]:
    """Give encoders of one name, or of a control's, their spec as a name; refuse the same one twice."""
    names = Counter([*KINDS[1:], *(one.name for one in encoders)])
    named = [replace(one, name=one.spec) if names[one.name] > 1 else one for one in encoders]
    twice = [n for n, count in Counter([*KINDS[1:], *(one.name for one in named)]).items() if count > 1]
    if twice or not encoders:
        reason = "named twice" if twice else "no encoder named"
        raise ConfigError(reason, where=twice[0] if twice else "ENCODER", remedy="name different encoders")
    return named
