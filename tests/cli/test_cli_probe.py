"""`dirl embed` and `dirl probe` parse, call and print."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import dirl.evaluate.probe
import dirl.evaluate.show
import dirl.features.embed
import dirl.features.to_anndata
from dirl.card import new_card
from dirl.cli.embed import embed
from dirl.cli.probe import probe
from dirl.config import ProbeConfig


class Made:
    path, values = Path("f"), np.zeros((7, 3))
    card = new_card("embed", {})


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_embed_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called = {}

    def fake(encoder, store, out, **options):
        called.update(encoder=encoder, store=store, out=out, **options)
        return Made()

    monkeypatch.setattr(dirl.features.embed, "embed", fake)
    arguments = ["timm:b", "--store", "s", "--out", "f", "--tiles", "9", "--batch", "2", "--seed", "3"]
    output = run(embed, *arguments, "--device", "cpu", "--workers", "1", "--overwrite", "--quiet",
        "--pool", "regions", "--cells", "hovernet", "--precision", "bf16", "--select", "0.5")  # fmt: skip
    assert called == {
        "encoder": "timm:b", "store": Path("s"), "out": Path("f"), "tiles": 9, "batch": 2, "seed": 3,
        "pool": "regions", "cells": "hovernet", "precision": "bf16", "device": "cpu", "workers": 1,
        "overwrite": True, "quiet": True, "select": 0.5,
    }  # fmt: skip
    assert output == "f: 7 tiles, 3 features each\n"


def test_embed_writes_anndata_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    made, written = Made(), []
    monkeypatch.setattr(dirl.features.embed, "embed", lambda *_, **__: made)
    monkeypatch.setattr(dirl.features.to_anndata, "require_anndata", lambda: None)
    monkeypatch.setattr(dirl.features.to_anndata, "write_anndata", written.append)
    run(embed, "timm:b", "--store", "s", "--out", "f")
    assert written == []
    run(embed, "timm:b", "--store", "s", "--out", "f", "--to", "anndata")
    assert written == [made]


def test_probe_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called = {}

    def fake(features, labels, out, config, **options):
        called.update(features=features, labels=labels, out=out, config=config, **options)

    monkeypatch.setattr(dirl.evaluate.probe, "probe", fake)
    monkeypatch.setattr(dirl.evaluate.show, "show", lambda result: None)
    run(probe, "f", "--labels", "l.csv", "--out", "o", "--folds", "3", "--groups", "stain", "--seed", "2")
    assert called == {
        "features": Path("f"), "labels": "l.csv", "out": Path("o"),
        "config": ProbeConfig(folds=3, groups="stain", seed=2), "overwrite": False, "quiet": False,
    }  # fmt: skip
