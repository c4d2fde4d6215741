"""`dirl embed` and `dirl probe` parse, call and print."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import dirl.evaluate.probe.run
import dirl.evaluate.probe.show
import dirl.features.embed
import dirl.features.handover
from dirl.cli.embed import embed
from dirl.cli.probe import probe
from dirl.config import EmbedConfig, ProbeConfig, TileConfig, Tool
from dirl.core.card import new_card
from dirl.core.claim import claim
from dirl.core.errors import PartlyFailedError, SlideError, UserError


class Made:
    path, values = Path("f"), np.zeros((7, 3))
    card = new_card("embed", {})


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs that the commands look for before they do anything else."""
    monkeypatch.chdir(tmp_path)
    for name in ("s", "f"):
        Path(name).mkdir()
    claim(Path("s"), new_card("tile", {}))
    Path("l.csv").touch()


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_embed_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, object] = {}

    def fake(encoder, source, out, config, **options):
        called.update(encoder=encoder, source=source, out=out, config=config, **options)
        return Made()

    monkeypatch.setattr(dirl.features.embed, "embed", fake)
    arguments = ["timm:b", "--store", "s", "--out", "f", "--tiles", "9", "--batch", "2", "--seed", "3"]
    output = run(embed, *arguments, "--device", "cpu", "--workers", "1", "--overwrite", "--quiet",
        "--pool", "regions", "--cells", "hovernet", "--precision", "bf16", "--select", "0.5")  # fmt: skip
    assert called == {
        "encoder": "timm:b", "source": Path("s"), "out": Path("f"), "batch": 2,
        "config": EmbedConfig(
            tiles=9, seed=3, pool="regions", cells="hovernet", precision="bf16", select=0.5
        ),
        "device": "cpu", "workers": 1, "baselines": True, "overwrite": True, "quiet": True,
    }  # fmt: skip
    assert output == "f: 7 tiles, 3 features each\n"


def test_embed_hands_over_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fake(features: Path, tools: list[Tool], *, quiet: bool) -> dict[Tool, Path]:
        asked.append((features, tools, quiet))
        return {tool: features / tool for tool in tools}

    monkeypatch.setattr(dirl.features.embed, "embed", lambda *_, **__: Made())
    monkeypatch.setattr(dirl.features.handover, "hand_over", fake)
    run(embed, "timm:b", "--store", "s", "--out", "f")
    assert asked == []
    output = run(embed, "timm:b", "--store", "s", "--out", "f", "--to", "clam", "--to", "stamp", "--quiet")
    assert asked == [(Path("f"), [Tool.CLAM, Tool.STAMP], True)]
    assert output.endswith("f/clam: for clam\nf/stamp: for stamp\n")


@pytest.mark.parametrize("done", [0, 1])
def test_embed_hands_over_the_slides_that_did_not_fail(done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def partly(*_: object, **__: object) -> None:
        raise PartlyFailedError({"b": SlideError("no slide", where="b")}, done)

    monkeypatch.setattr(dirl.features.embed, "embed", partly)
    monkeypatch.setattr(dirl.features.handover, "hand_over", lambda path, *_, **__: asked.append(path))
    app = typer.Typer()
    app.command()(embed)
    result = CliRunner().invoke(app, ["timm:b", "--store", "s", "--out", "f", "--to", "clam"])
    assert isinstance(result.exception, PartlyFailedError) and asked == [Path("f")] * done


def test_probe_passes_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, object] = {}

    def fake(features, labels, out, config, **options):
        called.update(features=features, labels=labels, out=out, config=config, **options)

    monkeypatch.setattr(dirl.evaluate.probe.run, "probe", fake)
    monkeypatch.setattr(dirl.evaluate.probe.show, "print_probe", lambda result: None)
    run(probe, "f", "--labels", "l.csv", "--out", "o", "--folds", "3", "--groups", "stain", "--seed", "2")
    assert called == {
        "features": Path("f"), "labels": "l.csv", "out": Path("o"),
        "config": ProbeConfig(folds=3, groups="stain", seed=2), "overwrite": False, "quiet": False,
    }  # fmt: skip


def test_embed_takes_slides_as_shells_list_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: dict[str, Any] = {}

    def fake(encoder, source, out, config, **options):
        called.update(encoder=encoder, source=source, baselines=options["baselines"])
        return Made()

    monkeypatch.setattr(dirl.features.embed, "embed", fake)
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).touch()
    listed = [str(tmp_path / name) for name in ("a.svs", "b.svs")]
    run(embed, "timm:b", "--slides", *listed, "--out", "f", "--mpp", "1", "--size", "96", "--no-baselines")
    source = called["source"]
    assert called["encoder"] == "timm:b" and not called["baselines"] and source.slide_ids == ("a", "b")
    assert source.config == TileConfig(mpp=1, size_px=96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "none given"),
        (["--store", "s", "--slides", "a.svs"], "both"),
        (["--store", "s", "--stride", "9", "--allow-upsample"], r"stride_px, allow_upsample.*--slides"),
        (["--store", "s", "--cohort", "t.csv"], "cohort"),
        (["--store", "s", "stray"], "stray"),
        (["--slides", "nowhere.svs"], "no such file"),
    ],
)
def test_embed_refuses_what_makes_no_sense(options: list[str], message: str) -> None:
    app = typer.Typer()
    app.command()(embed)
    result = CliRunner().invoke(app, ["timm:b", "--out", "f", *options])
    assert isinstance(result.exception, UserError)
    assert re.search(message, str(result.exception))
