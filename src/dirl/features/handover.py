"""Features in the layouts of other tools, beside the files of `dirl embed`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dirl.config import Tool
from dirl.core.boundary import inside
from dirl.core.card import note_change, read_card
from dirl.core.digests import are_whole
from dirl.core.errors import ConfigError
from dirl.core.files import replacing
from dirl.core.owner import own, owning
from dirl.core.progress import bar
from dirl.features import to_clam, to_stamp, to_trident
from dirl.features.feature_files import read_features, whole_files
from dirl.features.slide_features import Content, SlideFeatures, open_slide
from dirl.features.to_anndata import ANNDATA, anndata_file, require_anndata
from dirl.features.tool_name import tool_name


@dataclass(frozen=True)
class Layout:
    """A tool's layout of the features of a slide.

    Attributes
    ----------
    files
        Makes the slide's files by their names in the output.
    encoders
        The tool's names of encoders of `dirl encoders`.
    places
        Whether tiles must have places on a slide.
    """

    files: Callable[[SlideFeatures], Mapping[str, Content]]
    encoders: Mapping[str, str]
    places: bool


LAYOUTS: Mapping[Tool, Layout] = {
    Tool.CLAM: Layout(to_clam.clam_files, {}, places=False),
    Tool.TRIDENT: Layout(to_trident.trident_files, to_trident.ENCODERS, places=True),
    Tool.STAMP: Layout(to_stamp.stamp_files, to_stamp.ENCODERS, places=True),
}


def check_tools(tools: Collection[Tool]) -> None:
    """Raise a `ConfigError` if a tool needs an extra that is missing."""
    if Tool.ANNDATA in tools:
        require_anndata()


@owning
def hand_over(features: Path, tools: Collection[Tool | str], *, quiet: bool = False) -> dict[Tool, Path]:
    """Write features as other tools read them, into the same directory.

    Files that are there already are kept, so an interrupted call continues. All are in the card, and
    `dirl check` compares them.

    Parameters
    ----------
    features
        An output of `dirl embed`.
    tools
        ``clam`` writes ``pt_files``, ``trident`` a folder such as ``20x_224px_0px_overlap``, ``stamp`` a
        folder ``stamp``, and ``anndata`` the file ``features.h5ad``.
    quiet
        Show no progress.

    Returns
    -------
    dict
        By tool, the folder or file to give to it.

    Raises
    ------
    ConfigError
        If there is no such tool, or AnnData is not installed. Also if ready-made tiles have no places, which
        the tool needs, or features are too large for it.
    StoreError
        If `features` is not a finished output of `dirl embed`, or is damaged.
    """
    wanted = [_tool(name) for name in dict.fromkeys(tools)]
    check_tools(wanted)
    card = read_card(features, "embed")
    files = whole_files(features, card)
    own(features)
    layouts = {tool: LAYOUTS[tool] for tool in wanted if tool in LAYOUTS}
    made: dict[Tool, Path] = {}
    with bar("Handing over", len(files) * len(layouts), quiet=quiet) as advance:
        for tool, layout in layouts.items():
            name = tool_name(card.config["encoder"], card.config["pool"], layout.encoders)
            for file in files:
                slide = open_slide(file, name)
                if layout.places and slide.ready_made:
                    _refuse_ready_made(tool, file)
                for path, content in layout.files(slide).items():
                    made[tool] = inside(features, path).parent
                    if not are_whole(features, [path], card.files):
                        _write(features, path, content())
                advance()
    if Tool.ANNDATA in wanted:  # of all slides, which may have become more
        made[Tool.ANNDATA] = features / ANNDATA
        _write(features, ANNDATA, anndata_file(read_features(features)))
    note_change(features)
    return made


def _tool(name: str) -> Tool:
    if name not in set(Tool):
        raise ConfigError("no such tool", where=name, remedy=f"there are: {', '.join(Tool)}")
    return Tool(name)


def _write(features: Path, name: str, content: bytes | memoryview) -> None:
    with replacing(inside(features, name)) as temporary:
        temporary.write_bytes(content)


def _refuse_ready_made(tool: Tool, file: Path) -> None:
    raise ConfigError(
        "ready-made tiles have no places on a slide, which this tool needs",
        where=f"--to {tool}, {file}",
        remedy="use --to clam or --to anndata; the features are complete",
    )
