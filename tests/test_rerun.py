"""A command that runs again takes up its own files only: it blesses no damage, no foreign file."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dirl import synthetic
from dirl.cells.export import cells_export
from dirl.cells.run import cells
from dirl.check import check
from dirl.config import CellsConfig, TileConfig
from dirl.core.card import mark_unfinished, read_card
from dirl.core.digests import files_of
from dirl.core.errors import DirlError
from dirl.core.files import remove
from dirl.features.embed import embed
from dirl.pretrain.run import pretrain
from dirl.store.build import tile

CONFIG = TileConfig(size_px=64, min_tissue=0.2)
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "longer": lambda data: data + b"\n",
    "shorter": lambda data: data[: len(data) // 2],
    "other": lambda data: b"mine",
}


@dataclass(frozen=True)
class Outputs:
    """Outputs of five commands, and how to run each again."""

    root: Path
    copy: Path
    again: dict[str, Callable[[], object]]

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.copy, self.root)


@pytest.fixture(scope="module")
def outputs(recipe, tmp_path_factory) -> Outputs:
    folder = tmp_path_factory.mktemp("rerun")
    slides, root = folder / "slides", folder / "out"
    slides.mkdir()
    for seed, name in enumerate(("one", "two"), start=1):
        synthetic.write(slides / f"{name}.tiff", seed, (448, 320))
    store = root / "store"
    small = recipe.model_copy(update={"steps": 2, "batch": 4, "checkpoint_every_steps": 1})
    again: dict[str, Callable[[], object]] = {
        "store": lambda: tile([slides], store, CONFIG, quiet=True),
        "store/cells/hematoxylin": lambda: cells(store, CellsConfig(), quiet=True),
        "outlines": lambda: cells_export(store, root / "outlines", quiet=True),
        "run": lambda: pretrain(small, store, root / "run", device="cpu", quiet=True),
        "features": lambda: embed(str(root / "run"), store, root / "features", device="cpu", quiet=True),
    }
    for command in again.values():
        command()
    assert check(root / "store", quiet=True).findings == ()
    shutil.copytree(root, folder / "copy")
    return Outputs(root, folder / "copy", again)


def test_every_file_of_every_output_has_a_digest(outputs):
    for name in outputs.again:
        found = check(outputs.root / name, quiet=True)
        assert found.findings == () and found.files > 0
        assert not (outputs.root / name / ".written").exists()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.randoms(use_true_random=False))
def test_no_damage_and_no_foreign_file_is_ever_blessed(outputs, which):
    name = which.choice(sorted(outputs.again))
    folder = outputs.root / name
    before = files_of(folder)
    changed = which.choice(sorted(before))
    lost = which.choice([None, *sorted(before)])
    foreign = which.choice(sorted({path.parent for path in before.values()})) / "mynotes.json"
    damage = which.choice(list(DAMAGES.values()))(before[changed].read_bytes())
    try:
        before[changed].write_bytes(damage)
        foreign.write_text("{}")
        if lost is not None:
            remove(before[lost].parent if "encoder/" in lost else before[lost])  # what a remedy says
        if name != "run" and which.random() < 0.5:  # as a stop before the end leaves it
            mark_unfinished(folder, read_card(folder))
        with suppress(DirlError):  # it may refuse what is damaged
            outputs.again[name]()
        card = read_card(folder)
        assert foreign.relative_to(folder).as_posix() not in card.files
        if card.finished is None:
            return
        findings = {finding.path: finding.what for finding in check(folder, quiet=True).findings}
        if foreign.exists():
            assert findings.pop(foreign) == "unknown"
        for file, path in files_of(outputs.copy / name).items():
            now = before[file]
            if not now.exists():
                assert findings.get(now) == "missing"
            elif file == changed and now.read_bytes() == damage:
                assert findings.get(now) == "damaged", f"{file} of {name} was blessed"
            elif name != "run":  # whose logs differ each time
                assert now.read_bytes() == path.read_bytes()
    finally:
        outputs.restore()
