"""An audit of slides: its tiles are kept, and it gives what an audit of these tiles gives."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import dirl
from dirl import synthetic
from dirl.cli.main import app
from dirl.config import AuditConfig, TileConfig
from dirl.store.dataset import TileStore

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,patch_size=8,img_size=64"
SMALL = AuditConfig(tiles=10, bootstrap=20, figures=0)
CUT = TileConfig(size_px=64, min_tissue=0.3)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate("ab"):
        slide = synthetic.write(folder / f"{name}.tif", seed=seed, size_px=(512, 512))
        Image.fromarray(slide.labels.astype(np.uint16)).save(folder / f"{name}.labels.png")
    return folder


def test_it_gives_what_an_audit_of_its_tiles_gives(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    made = dirl.audit_slides([ENCODER], [slides], out, SMALL, cut=CUT, device="cpu", quiet=True)
    store = TileStore.open(tmp_path / "audit-tiles")
    assert len(store) == 10 and {*store.slide_ids} == {"a", "b"} and (out / "report.html").exists()
    again = dirl.audit([ENCODER], store.path, tmp_path / "again", SMALL, device="cpu", quiet=True)
    assert again.summary.encoders == made.summary.encoders


def test_the_drawn_tiles_are_some_of_all_and_from_the_whole_tissue(slides: Path, tmp_path: Path) -> None:
    whole = dirl.tile([slides / "a.tif"], tmp_path / "whole", CUT, quiet=True)
    few = CUT.model_copy(update={"max_tiles": 8, "max_tiles_from": "tissue"})
    drawn = dirl.tile([slides / "a.tif"], tmp_path / "few", few, quiet=True)
    assert {*drawn.tile_ids} < {*whole.tile_ids} and len(drawn) == 8
    middle = dirl.tile(
        [slides / "a.tif"], tmp_path / "middle", CUT.model_copy(update={"max_tiles": 8}), quiet=True
    )

    def spread(store: TileStore) -> float:
        return float(np.ptp([int(name.split("_")[1]) for name in store.tile_ids]))

    assert spread(drawn) > spread(middle)


def test_the_command_takes_slides_after_the_option_and_nuclei_from_files(
    slides: Path, tmp_path: Path
) -> None:
    words = ["audit", ENCODER, "--slides", str(slides / "a.tif"), str(slides / "b.tif"), "--size", "64"]
    words += ["--tiles", "10", "--cells", f"labels:{slides}", "--out", str(tmp_path / "audit"), "--quiet"]
    (tmp_path / "maps").mkdir()
    for name in "ab":
        (tmp_path / "maps" / f"{name}.png").symlink_to(slides / f"{name}.labels.png")
    words[words.index(f"labels:{slides}")] = f"labels:{tmp_path / 'maps'}"
    result = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert TileStore.open(tmp_path / "audit-tiles").cells("labels").name == "labels"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["uni", "--out", "o"], "--store, --slides, --cohort: none given"),
        (["uni", "--out", "o", "--store", "s", "--slides", "."], "a store has its own slides"),
        (["uni", "--out", "o", "--store", "s", "--mpp", "1"], "a store has its own slides"),
        (["{0}", "--slides", "{0}", "--out", "o"], "no encoder named"),
        (["uni", "--slides", "none.svs", "--out", "o"], "none.svs: no such file or folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(slides: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["audit", *(word.format(slides / "a.tif") for word in words)])
    assert result.exit_code == 2 and said in result.output
