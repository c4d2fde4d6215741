"""`dirl demo`: all main commands on one slide, on a CPU, in minutes."""

import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dirl import synthetic
from dirl.audit.run import audit
from dirl.audit.summary import AuditSummary
from dirl.cells.run import cells
from dirl.config import AuditConfig, CellsConfig, TileConfig, load_recipe
from dirl.core.callable_module import make_callable
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.digests import sha256
from dirl.core.errors import StoreError
from dirl.core.files import replacing
from dirl.core.owner import own, owning
from dirl.core.progress import bar, printer, say
from dirl.core.results import Result
from dirl.pretrain.run import pretrain
from dirl.report.html import format_number, format_signed
from dirl.slides.reading import open_slide
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out

SAMPLE_URL = "https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs"
SAMPLE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
TIMEOUT_S = 15
TILE_PX = 128
MPP = 0.5
# A whole slide has tens of thousands; a field of 1.6 mm² takes minutes.
MAX_TILES = 400
FEWEST = 8  # tiles to train on; with fewer, telling them apart teaches nothing


@dataclass(frozen=True)
class Demo:
    """A finished demo.

    Attributes
    ----------
    path
        Its directory: ``store/``, ``vanilla/``, ``dirl/``, ``audit/``.
    slide
        The slide.
    origin
        Where the slide came from, in words.
    audit
        The audit of the two runs.
    """

    path: Path
    slide: Path
    origin: str
    audit: Result[AuditSummary]


@owning
def demo(
    slide: Path | None = None,
    out: Path = Path("demo"),
    *,
    mpp_override: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Demo:
    """Tile one slide, find its nuclei, pretrain vanilla and DiRL alike, and compare their attention.

    Both runs have the same seed, order of tiles, views and number of steps. They differ in one key of the
    recipe, ``dense.weight``. An interrupted demo goes on where it stopped.

    Parameters
    ----------
    slide
        A slide that OpenSlide reads. None downloads a public one, or draws one if that fails.
    out
        Directory of the demo.
    mpp_override
        µm per pixel of a slide whose file names none.
    seed
        Seed of the runs and of the audit.
    overwrite
        Replace a demo of another slide or seed.
    quiet
        Show no progress.

    Raises
    ------
    DirlError
        If a stage fails.
    """
    if slide is not None:
        open_slide(slide, mpp_override).close()  # refuse a slide that cannot be read
    card = new_card("demo", {"slide": str(slide or "sample"), "mpp_override": mpp_override, "seed": seed})
    card = claim(out, card, overwrite=overwrite)
    own(out)
    chosen, origin = (slide, f"your slide {slide.name}") if slide else find_sample(out, quiet=quiet)
    say(f"Slide: {origin}", quiet=quiet)

    store, runs = out / "store", [out / "vanilla", out / "dirl"]
    config = TileConfig(mpp=MPP, size_px=TILE_PX, max_tiles=MAX_TILES, mpp_override=mpp_override)
    tile([chosen], store, config, quiet=quiet)
    cells(store, CellsConfig(), quiet=quiet)
    batch = _batch(store, seed)
    for run, override in zip(runs, ("dense.weight=0", "dense.weight=1"), strict=True):
        recipe = load_recipe("demo", [override, f"seed={seed}", f"batch={batch}"])
        pretrain(recipe, store, run, device="cpu", quiet=quiet)
    result = audit(
        [str(run) for run in runs],
        store,
        out / "audit",
        AuditConfig(tiles=256, seed=seed, figures=3),
        device="cpu",
        quiet=quiet,
    )
    finish(out, card, {"tiles": result.summary.tiles})
    return Demo(out, chosen, origin, result)


def _batch(store: Path, seed: int) -> int:
    """The recipe's batch, or the number of training tiles if it is smaller."""
    recipe, tiles = load_recipe("demo", [f"seed={seed}"]), TileStore.open(store)
    trained = int((~held_out(tiles.tile_ids.tolist(), recipe.holdout, seed)).sum())
    if trained < FEWEST:
        reason = f"only {len(tiles)} tiles of {TILE_PX} px with tissue at {MPP} µm/px"
        raise StoreError(reason, where=store, remedy="name a slide with more tissue")
    return min(recipe.batch, trained)


def find_sample(out: Path, *, quiet: bool = False) -> tuple[Path, str]:
    """Return the public sample slide, downloaded once, or draw a slide into `out` if that fails.

    Returns
    -------
    path : Path
        The slide.
    origin : str
        Where it came from.
    """
    name = SAMPLE_URL.rsplit("/", 1)[1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dirl" / name
    drawn = out / "synthetic.tif"
    if drawn.exists():  # an interrupted demo goes on with the same slide
        return drawn, "a synthetic slide with known nuclei, drawn earlier"
    try:
        if not (cache.exists() and sha256(cache) == SAMPLE_SHA256):
            _download(SAMPLE_URL, cache, quiet=quiet)
        return cache, f"{name}, a public slide (CC0) from OpenSlide's test data"
    except OSError as error:
        why = getattr(error, "reason", None) or error
        with bar("Drawing a slide", None, quiet=quiet):
            synthetic.write(drawn, seed=0)
        because = f"because {name} could not be downloaded ({why})"
        return drawn, f"a synthetic slide with known nuclei, not tissue, {because}"


def print_demo(done: Demo, console: Console | None = None) -> None:
    """Print the table of the two runs, the verdict, and the path of the report."""
    console = console or printer()
    summary = done.audit.summary
    subjects = [one for one in summary.encoders if one.kind == "encoder"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("last block of")
    for one in subjects:
        table.add_column(one.name, justify="right")
    rows = {
        "joint map: normalised entropy": "entropy",
        "tokens in effect, share": "effective_share",
        "Gini (0 = even)": "gini",
        "nuclei attended, share": "components50",
    }
    for label, key in rows.items():
        table.add_row(label, *(format_number(one.last_block.joint[key], key) for one in subjects))
    nuclei = (format_signed(one.enrichment.joint["nuclei"]) for one in subjects)
    table.add_row("attention on nuclei, log2", *nuclei)
    gates = ("passed" if summary.gates[one.name].passed else "failed" for one in subjects)
    table.add_row("gate", *gates)
    console.print(table)
    console.print(f"\nOn {done.origin}.", markup=False, highlight=False)
    console.print(summary.verdict.headline, markup=False, highlight=False)
    console.print(
        "This is about these two small runs, not about the method. A grid of boxes spreads attention, too. "
        "To see whether the cells matter, train the controls (`dirl pretrain demo --set "
        "dense.control=grid`, or shuffled).",
        markup=False,
        highlight=False,
    )
    console.print(f"Report: {done.audit.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def _download(url: str, target: Path, *, quiet: bool) -> None:
    """Download a file, check it, and move it to its place."""
    with replacing(target) as temporary, urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        size = int(response.headers.get("Content-Length") or 0) or None
        with temporary.open("wb") as handle, bar("Downloading a slide", size, quiet=quiet) as advance:
            while block := response.read(1 << 16):
                handle.write(block)
                advance(len(block))
        if (found := sha256(temporary)) != SAMPLE_SHA256:
            raise OSError(f"what {url} sent is not the slide: its SHA-256 is {found}")


make_callable(__name__, "dirl.demo:demo")
