"""How many images go through the encoders of an audit."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from dirl.audit.gate import FEWEST_VIEWS
from dirl.audit.run import audit
from dirl.audit.subjects import encoder_rows
from dirl.audit.trust import TILES as CHANGED
from dirl.config import AuditConfig
from dirl.encoders.loading import LoadedEncoder, embed_images, load_encoder, preprocess

SPEC = "timm:vit_tiny_patch16_224,weights=FILE,img_size=64,patch_size=16,depth=2"
TILES = 64


@pytest.fixture
def images_seen(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Images by encoder; every image on its way to any model is preprocessed."""
    seen: Counter[str] = Counter()

    def count(encoder: LoadedEncoder, images: torch.Tensor) -> torch.Tensor:
        seen[encoder.name] += len(images)
        return preprocess(encoder, images)

    for module in ("encoders.loading", "audit.run", "audit.subjects", "audit.spread", "audit.trust"):
        monkeypatch.setattr(f"dirl.{module}.preprocess", count)
    return seen


@pytest.fixture
def spec(tmp_path: Path) -> str:
    arguments = SPEC.replace("FILE", "random")
    weights = tmp_path / "own.pth"
    torch.save(load_encoder(arguments).model.state_dict(), weights)
    return SPEC.replace("FILE", str(weights))


def test_an_encoder_and_its_control_see_at_most_four_times_the_tiles(
    store: Path, spec: str, tmp_path: Path, images_seen: Counter[str]
) -> None:
    config = AuditConfig(tiles=TILES, cells="truth", bootstrap=20)
    audit([spec], store, tmp_path / "out", config, device="cpu", quiet=True)
    (encoder, control) = images_seen.values()
    assert control == TILES + FEWEST_VIEWS
    assert encoder == 1 + TILES + FEWEST_VIEWS + 4 * CHANGED  # 1 before the output is claimed
    assert encoder + control <= 4 * TILES


def test_the_planted_mark_takes_half_a_pass(
    store: Path, spec: str, tmp_path: Path, images_seen: Counter[str]
) -> None:
    config = AuditConfig(tiles=TILES, cells="truth", bootstrap=20, figures=0)
    audit([spec], store, tmp_path / "without", config, device="cpu", quiet=True)
    without = images_seen.total()
    marked = config.model_copy(update={"confounder": True})
    audit([spec], store, tmp_path / "with", marked, device="cpu", quiet=True)
    assert images_seen.total() - 2 * without == TILES // 2


def test_one_pass_gives_the_embeddings_too(store: Path, runs: tuple[Path, Path]) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 3, 64, 64), np.uint8))
    for encoder in (load_encoder(str(runs[0])), load_encoder("virchow2,weights=random,depth=1,img_size=56")):
        found = encoder_rows(encoder, images).embeddings
        assert found is not None
        torch.testing.assert_close(found, embed_images(encoder, images))
