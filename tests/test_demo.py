"""The demo, offline and short."""

import hashlib
import io
import urllib.error
import urllib.request
from importlib import import_module
from typing import Any

import pytest
from rich.console import Console

from dirl import synthetic
from dirl.config import load_recipe
from dirl.core.errors import Interrupted, SlideError, StoreError
from dirl.demo import demo, find_sample, print_demo
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out

module: Any = import_module("dirl.demo")  # `dirl.demo` is a function to a type checker
SHORT = ["steps=4", "batch=8", "encoder.depth=2", "encoder.width=32", "encoder.heads=2", "holdout=0.4"]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(
        module, "load_recipe", lambda name, overrides: load_recipe(name, [*SHORT, *overrides])
    )
    draw = synthetic.write
    monkeypatch.setattr(synthetic, "write", lambda path, seed: draw(path, seed, (1024, 1024)))


def test_offline_it_tells_the_whole_story_on_a_drawn_slide(offline, short, tmp_path):
    done = demo(out=tmp_path / "demo", quiet=True)
    assert "synthetic slide" in done.origin and "no route to host" in done.origin
    names = [one.name for one in done.audit.summary.encoders if one.kind == "encoder"]
    assert names == ["vanilla", "dirl"]
    assert (done.audit.path / "report.html").exists()
    console = Console(record=True, width=100, file=io.StringIO())
    print_demo(done, console)
    text = console.export_text()
    assert "gate" in text and "report.html" in text and "synthetic slide" in text
    # Four steps teach nothing, and the verdict must not pretend otherwise.
    assert "No evidence" in text

    before = (done.audit.path / "report.html").stat().st_mtime_ns
    again = demo(out=tmp_path / "demo", quiet=True)
    assert (again.audit.path / "report.html").stat().st_mtime_ns == before


def test_a_demo_stopped_in_its_first_run_does_not_go_on_with_the_second(
    offline, short, tmp_path, monkeypatch
):
    begun = []

    def stopped(recipe, store, out, **options):
        begun.append(out.name)
        raise Interrupted(15)

    monkeypatch.setattr(module, "pretrain", stopped)
    with pytest.raises(Interrupted):
        demo(out=tmp_path / "demo", quiet=True)
    assert begun == ["vanilla"] and not (tmp_path / "demo" / "audit").exists()


def test_a_slide_with_fewer_tiles_than_a_batch_gives_all_of_them(small_store, monkeypatch):
    tiles, recipe = TileStore.open(small_store), load_recipe("demo")
    trained = int((~held_out(tiles.tile_ids.tolist(), recipe.holdout, 0)).sum())
    assert module.FEWEST < trained < recipe.batch and module._batch(small_store, 0) == trained
    monkeypatch.setattr(module, "FEWEST", trained + 1)
    with pytest.raises(StoreError, match=f"only {len(tiles)} tiles .* name a slide with more tissue"):
        module._batch(small_store, 0)


def test_a_slide_that_cannot_be_read_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "broken.svs").write_bytes(b"nothing")
    with pytest.raises(SlideError, match=r"broken\.svs"):
        demo(tmp_path / "broken.svs", tmp_path / "demo", quiet=True)
    assert not (tmp_path / "demo").exists()


class Response(io.BytesIO):
    headers: dict = {}  # noqa: RUF012


def test_a_download_is_checked_and_cached(monkeypatch, tmp_path):
    content = b"a slide"
    asked = []

    def download(url, timeout):
        asked.append(url)
        return Response(content)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SAMPLE_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(urllib.request, "urlopen", download)
    for _ in range(2):
        path, origin = find_sample(tmp_path / "demo", quiet=True)
        assert path.read_bytes() == content and "CC0" in origin
    assert len(asked) == 1


def test_a_download_that_is_not_the_slide_is_not_used(monkeypatch, tmp_path, short):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Response(b"a login page"))
    path, origin = find_sample(tmp_path / "demo", quiet=True)
    assert "synthetic" in origin and "is not the slide" in origin and path.suffix == ".tif"
    assert not list((tmp_path / "cache").rglob("*.svs*"))
