"""A whole audit on a small store: what it writes, that it adds up, and that it is the same again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from dirl.audit.run import audit
from dirl.audit.subjects import name_encoders
from dirl.audit.summary import AuditSummary
from dirl.audit.table import COLUMNS
from dirl.config import AuditConfig
from dirl.core.errors import ConfigError, EncoderError, StoreError
from dirl.core.results import Result
from dirl.encoders.loading import load_encoder
from tests.known import known

CONFIG = AuditConfig(tiles=24, cells="truth", bootstrap=200, figures=3)


@pytest.fixture(scope="module")
def result(
    store: Path, runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Result[AuditSummary]:
    out = tmp_path_factory.mktemp("out") / "audit"
    return audit([str(run) for run in runs], store, out, CONFIG, device="cpu", quiet=True)


def test_everything_is_written(result: Result[AuditSummary]) -> None:
    for name in ("report.html", "summary.json", "leaderboard.csv", "measures.parquet", "card.json"):
        assert (result.path / name).stat().st_size > 0
    drawn = {path.name for path in (result.path / "figures").iterdir()}
    assert drawn == {
        "comparison.png", "heads.png", "depth.png", "depth.svg", "enrichment.png", "enrichment.svg",
        "trust.png", "trust.svg",
    }  # fmt: skip
    assert json.loads((result.path / "summary.json").read_text()) == result.summary.to_json()
    assert json.loads((result.path / "card.json").read_text())["finished"]


def test_the_table_and_the_summary_agree(result: Result[AuditSummary]) -> None:
    table = pq.read_table(result.path / "measures.parquet")
    # 2 runs and one untrained control of 2 blocks and 3 heads + their average; uniform has one of each.
    assert table.num_rows == 24 * (3 * 2 * 4 + 2)
    assert set(COLUMNS) < set(table.column_names)
    for one in result.summary.encoders:
        mine = table.filter(pc.equal(table["encoder"].cast("string"), one.name))
        last = mine.filter(pc.equal(mine["block"], one.blocks - 1))
        heads = last.filter(pc.greater_equal(last["head"], 0))
        mean = np.nanmean(heads["entropy"].to_numpy())
        assert one.last_block.per_head["entropy"].value == pytest.approx(mean, abs=1e-5)
        assert one.by_block.per_head["entropy"][-1] == pytest.approx(mean, abs=1e-5)
        joint = np.nanmean(last.filter(pc.equal(last["head"], -1))["entropy"].to_numpy())
        assert one.primary.value == one.last_block.joint["entropy"].value == pytest.approx(joint, abs=1e-5)
        assert one.entropy_by_head[-1] == one.entropy_of_heads
        assert len(one.entropy_by_head) == one.blocks
        assert one.by_slide is not None and one.by_slide["synthetic"].tiles == 24
        assert one.by_slide["synthetic"].per_head == pytest.approx(mean, abs=1e-5)
        assert np.mean([known(entropy) for entropy in one.entropy_of_heads]) == pytest.approx(mean, abs=1e-5)
        area, attention = heads["area_nuclei"].to_numpy(), heads["attention_nuclei"].to_numpy()
        enough = area >= CONFIG.min_area
        expected = np.log2(attention[enough].sum() / area[enough].sum())
        assert one.enrichment.per_head["nuclei"].value == pytest.approx(expected, abs=1e-4)
        assert one.enrichment_by_block.per_head["nuclei"][-1] == pytest.approx(expected, abs=1e-4)
        total = sum(table[f"area_{region}"].to_numpy() for region in ("nuclei", "rest", "glass"))
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_what_needs_whole_matrices_is_not_there(result: Result[AuditSummary]) -> None:
    last = result.summary.encoders[0].last_block.per_head
    assert last["sink_ratio"].value is None and last["outliers"].value is not None
    assert "sink ratio" not in (result.path / "report.html").read_text()


def test_the_leaderboard_is_a_table_for_others(result: Result[AuditSummary]) -> None:
    table = pyarrow.csv.read_csv(result.path / "leaderboard.csv")
    assert table["encoder"].to_pylist() == [one.encoder for one in result.summary.leaderboard]
    assert table["gate"].to_pylist() == ["failed", "failed", "", ""] and table["rank"].null_count == 4
    for row in table.to_pylist():
        one = next(one for one in result.summary.encoders if one.name == row["encoder"])
        for name, value in one.last_block.joint.items():
            found = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
            assert found == [
                None if v is None else pytest.approx(v, rel=1e-5)
                for v in (value.value, value.low, value.high)
            ]
    (pair,) = result.summary.differences
    assert table["difference"].to_pylist() == [
        None, pytest.approx(pair.joint["entropy"].value, rel=1e-5), None, None
    ]  # fmt: skip
    assert "Leaderboard" in (result.path / "report.html").read_text()


def test_controls(result: Result[AuditSummary]) -> None:
    kinds = {one.name: one for one in result.summary.encoders}
    assert list(kinds) == ["vanilla", "dirl", "untrained", "uniform"]
    uniform = kinds["uniform"].last_block.per_head
    assert uniform["entropy"].value == pytest.approx(1, abs=1e-6)
    assert uniform["gini"].value == pytest.approx(0, abs=1e-5)
    assert uniform["components50"].value == 1
    assert uniform["components100"].value == 1
    for region in ("nuclei", "rest"):
        assert kinds["uniform"].enrichment.per_head[region].value == pytest.approx(0, abs=1e-5)
    assert kinds["vanilla"].token_um == 4.0 and kinds["vanilla"].grid == (8, 8)
    assert 0 < known(kinds["vanilla"].prior_contrast) < 1


def test_differences_are_paired_and_signed(result: Result[AuditSummary]) -> None:
    (pair,) = result.summary.differences
    assert (pair.reference, pair.encoder) == ("vanilla", "dirl")
    by_name = {one.name: known(one.last_block.joint["entropy"].value) for one in result.summary.encoders}
    change = pair.joint["entropy"]
    assert change.value == pytest.approx(by_name["dirl"] - by_name["vanilla"], abs=1e-6)
    assert 0 < known(change.low) <= known(change.value) <= known(change.high)  # half as sharp: more even


def test_untrained_runs_are_no_evidence(result: Result[AuditSummary]) -> None:
    assert not any(gate.passed for gate in result.summary.gates.values())
    assert not result.summary.verdict.evidence
    assert result.summary.verdict.headline.startswith("No evidence")


def test_the_report_holds_everything_and_asks_for_nothing(result: Result[AuditSummary]) -> None:
    html = (result.path / "report.html").read_text()
    assert "No evidence" in html and html.index("Verdict") < html.index("<figure>")
    assert html.count("data:image/png;base64") == 2 and html.count("data:image/svg+xml;base64") == 3
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script", html)


def test_again_does_nothing_and_otherwise_refuses(
    result: Result[AuditSummary], store: Path, runs: tuple[Path, Path]
) -> None:
    before = (result.path / "report.html").stat().st_mtime_ns
    specs = [str(run) for run in runs]
    assert audit(specs, store, result.path, CONFIG, quiet=True).summary == result.summary
    assert (result.path / "report.html").stat().st_mtime_ns == before
    with pytest.raises(StoreError, match=r"made with other settings .*seed"):
        audit(specs, store, result.path, CONFIG.model_copy(update={"seed": 1}), quiet=True)


def test_the_same_audit_elsewhere_is_the_same(
    result: Result[AuditSummary], store: Path, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    again = audit([str(run) for run in runs], store, tmp_path / "again", CONFIG, device="cpu", quiet=True)
    assert again.summary == result.summary
    for path in (result.path / "figures").iterdir():
        assert path.read_bytes() == (again.path / "figures" / path.name).read_bytes(), path.name


def test_one_fixed_size_encoder(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "timm:vit_tiny_patch16_224,weights=random"
    config = CONFIG.model_copy(update={"tiles": 8, "figures": 1})
    summary = audit([spec], store, tmp_path / "a&<b>", config, device="cpu", quiet=True).summary
    encoder, uniform = summary.encoders  # random, so its own control: listed once
    assert (encoder.control, uniform.kind) == (encoder.name, "uniform")
    assert any("its own untrained control" in note for note in summary.verdict.notes)
    assert encoder.grid == (14, 14) and encoder.input_px == 224
    assert encoder.token_um == pytest.approx(0.5 * 64 / 14)
    assert summary.differences == [] and len(summary.examples) == 1
    assert summary.gates["vit_tiny_patch16_224 (random)"].loss is None


def test_a_planted_mark_is_reported(store: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"tiles": 24, "figures": 0, "confounder": True})
    result = audit([str(runs[0])], store, tmp_path / "out", config, device="cpu", quiet=True)
    planted = known(result.summary.confounder)
    assert [one.name for one in planted.encoders] == ["vanilla"]
    assert planted.marked == 12 and len(planted.statements) == 1
    assert (result.path / "figures" / "confounder.png").stat().st_size > 0
    assert planted.statements[0].partition(":")[0] in (result.path / "report.html").read_text()


def test_full(store: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Whole matrices too, of models with and without a class token."""
    small = "weights=random,embed_dim=48,depth=2,num_heads=3,img_size=64"
    averaged = f"timm:vit_relpos_base_patch16_224,{small}"
    pooled = f"timm:vit_base_patch16_siglip_224,{small}"
    config = CONFIG.model_copy(update={"tiles": 9, "figures": 1, "full": True})
    specs = [str(runs[0]), averaged, pooled]
    full = audit(specs, store, tmp_path / "full", config, device="cpu", quiet=True)
    by_query = {one.query: one for one in full.summary.encoders if one.kind == "encoder"}
    assert set(by_query) == {"cls", "mean patch", "pooling"}
    for one in full.summary.encoders:
        last = one.last_block.per_head
        assert 0 < known(last["attention_distance"].value) < 64 * 0.5
        assert known(last["sink_ratio"].value) >= 1 - 1e-5
        assert 0 < known(last["rollout_entropy"].value) <= 1 + 1e-6
        assert (last["outliers"].value is None) == (one.kind == "uniform")
    assert by_query["pooling"].blocks == 1 and by_query["mean patch"].blocks == 2
    assert (
        "no class token" in (full.path / "report.html").read_text()
        and (full.path / "figures" / "rollout.png").exists()
    )


def test_bad_requests(store: Path, runs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="named twice"):
        audit([str(runs[0])] * 2, store, out, CONFIG)
    with pytest.raises(StoreError, match=r"no cells of hematoxylin.*dirl cells"):
        audit([str(runs[0])], store, out, AuditConfig())
    with pytest.raises(ConfigError, match="no such device"):
        audit([str(runs[0])], store, out, CONFIG, device="cuda:99")
    with pytest.raises(EncoderError, match="calls attention 2 times"):
        audit(["timm:vit_dwee_patch16_reg1_gap_256,weights=random,depth=1"], store, out, CONFIG, quiet=True)
    few = CONFIG.model_copy(update={"confounder": True, "tiles": 4})
    with pytest.raises(ConfigError, match="too few for a probe of the planted mark"):
        audit([str(runs[0])], store, out, few, quiet=True)
    assert not out.exists()


def test_an_encoder_is_never_named_as_a_control_is(runs: tuple[Path, Path]) -> None:
    encoder = load_encoder(str(runs[0]))
    one, other = (replace(encoder, name=name) for name in ("untrained", "b"))
    assert [each.name for each in name_encoders([one, other])] == [str(runs[0]), "b"]
    with pytest.raises(ConfigError, match="named twice"):
        name_encoders([replace(one, spec="uniform", name="uniform")])
