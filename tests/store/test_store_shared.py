"""Several jobs fill one store at once: each slide is made once, and the store is what one job makes."""

import subprocess
import sys

import pytest

from dirl.config import TileConfig
from dirl.core.errors import InUseError
from dirl.core.owner import content, item_locked
from dirl.store.build import tile
from dirl.synthetic import write

CONFIG = TileConfig(size_px=128)
JOB = """
import sys
from pathlib import Path
from dirl.config import TileConfig
from dirl.store.build import tile
tile([Path(each) for each in sys.argv[2:]], Path(sys.argv[1]), TileConfig(size_px=128), quiet=True)
"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for number in range(4):
        write(folder / f"s{number}.tiff", number, (384, 384))
    return sorted(folder.glob("*.tiff"))


def bytes_of(folder):
    files = {str(path.relative_to(folder)): path for path in content(folder)}
    return {name: path.read_bytes() for name, path in files.items() if path.name != "card.json"}


def test_jobs_on_disjoint_slides_make_the_store_of_one_job(slides, tmp_path):
    tile(slides, tmp_path / "alone", CONFIG, quiet=True)
    out = tmp_path / "shared"
    parts = (slides[:1], slides[1:3], slides[3:])
    jobs = [
        subprocess.Popen([sys.executable, "-c", JOB, str(out), *map(str, part)], stderr=subprocess.PIPE)
        for part in parts
    ]
    errors = [job.communicate(timeout=120)[1].decode() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], errors
    assert bytes_of(out) == bytes_of(tmp_path / "alone")


def test_a_slide_that_another_job_works_on_is_refused_and_the_others_are_made(slides, tmp_path):
    out = tmp_path / "out"
    tile(slides[:1], out, CONFIG, quiet=True)
    with item_locked(out, "s2"), pytest.raises(InUseError, match="s2: in use by process"):
        tile(slides[2:3], out, CONFIG, quiet=True)
    with item_locked(out, "s2"), pytest.raises(InUseError, match="in use by process"):
        tile(slides, out, TileConfig(size_px=96), overwrite=True, quiet=True)
    assert len(tile(slides, out, CONFIG, quiet=True).slides) == 4
