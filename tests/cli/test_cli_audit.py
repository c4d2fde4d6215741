"""`dirl audit` parses, calls and prints."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dirl.audit.summary import AuditSummary
from dirl.cli.audit import audit
from dirl.config import AuditConfig
from dirl.core.card import new_card
from dirl.core.claim import claim
from dirl.core.results import Result
from tests.audit_cases import encoder, findings, summary


def test_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    claim(Path("s"), new_card("tile", {}))
    Path("a/encoder").mkdir(parents=True)
    Path("a/encoder/config.json").touch()
    called: dict[str, object] = {}

    def fake(
        encoders: list[str], store: Path, out: Path, config: AuditConfig, **options: object
    ) -> Result[AuditSummary]:
        called.update(encoders=encoders, store=store, out=out, config=config, **options)
        made = summary(findings(encoder("a", 0.5)), "No evidence: [bold] is not markup")
        return Result(out, made)

    monkeypatch.setattr("dirl.audit.run.audit", fake)
    app = typer.Typer()
    app.command()(audit)
    arguments = [
        "a",
        "timm:b",
        "--store",
        "s",
        "--out",
        "o",
        "--tiles",
        "9",
        "--cells",
        "mine",
        "--seed",
        "3",
    ]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--quiet"])
    assert result.exit_code == 0, result.output
    assert called == {
        "encoders": ["a", "timm:b"], "store": Path("s"), "out": Path("o"), "device": "cpu",
        "config": AuditConfig(tiles=9, cells="mine", seed=3), "overwrite": False, "quiet": True,
    }  # fmt: skip
    assert "[bold] is not markup" in result.output and "o/report.html" in result.output
