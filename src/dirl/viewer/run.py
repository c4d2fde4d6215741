"""`dirl view`: shows slides, tiles, nuclei and attention in a browser."""

import socket
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from dirl.core.full_disk import writing
from dirl.viewer.scene import Scene
from dirl.viewer.server import Viewer


def open_viewer(
    path: Path,
    *,
    audit: Path | None = None,
    maps: Sequence[Path] = (),
    features: Path | None = None,
    mpp_override: float | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Viewer:
    """Open all inputs and bind the address, without serving.

    Parameters
    ----------
    path
        A tile store, or a slide.
    audit
        Directory of `dirl audit` on that store.
    maps
        Directories of `dirl map` on its slides.
    features
        Directory of `dirl embed` on that store, or an HDF5 file of a slide's features.
    mpp_override
        Resolution in µm/px of a slide, which replaces the file's.
    host, port
        Address; port 0 chooses a free one.

    Returns
    -------
    Viewer
        A `socketserver` server. Its ``url`` includes the token. ``serve_forever`` runs it, and
        ``server_close`` ends it.

    Raises
    ------
    SlideError
        If the slide cannot be read or gives no resolution.
    StoreError
        If a directory is of the wrong kind, or does not belong to `path`.
    ConfigError
        If an input needs a store, or the address cannot be bound.
    """
    scene = Scene(path, audit=audit, maps=maps, features=features, mpp_override=mpp_override)
    return Viewer(scene, host, port)


def view(
    path: Path,
    *,
    audit: Path | None = None,
    maps: Sequence[Path] = (),
    features: Path | None = None,
    mpp_override: float | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    browser: bool = True,
) -> None:
    """Print the address of the viewer, and serve it until it is interrupted.

    Parameters
    ----------
    browser
        Open the page in this machine's browser.

    The other parameters and the errors are those of `open_viewer`.
    """
    with (
        open_viewer(
            path, audit=audit, maps=maps, features=features, mpp_override=mpp_override, host=host, port=port
        ) as viewer,
        ExitStack() as stack,
    ):
        try:
            print(how_to_reach(viewer), flush=True)
            if browser:
                webbrowser.open(stack.enter_context(_doorway(viewer.url)))
            viewer.serve_forever()
        except KeyboardInterrupt:  # Ctrl-C, or another signal that ends it: see `dirl.core.signals`
            print()


@contextmanager
def _doorway(url: str) -> Iterator[str]:
    """A page that redirects to `url` and that only this account can read.

    Every account can read the list of processes. It then shows the page's name instead of the token.
    """
    with NamedTemporaryFile("w", prefix="dirl-view-", suffix=".html") as page:
        with writing(Path(page.name)):
            page.write(f'<meta http-equiv="refresh" content="0; url={url}">')
            page.flush()
        yield Path(page.name).as_uri()


def how_to_reach(viewer: Viewer) -> str:
    """Describe how to open the page, also from another machine."""
    port = viewer.port
    lines = [f"{viewer.scene.title}: {viewer.url}"]
    if viewer.host in {"127.0.0.1", "::1", "localhost"}:
        lines.append(
            f"from another machine: ssh -L {port}:localhost:{port} {socket.gethostname()}, "
            f"then http://localhost:{port}/?token={viewer.token} there"
        )
    else:
        lines.append(
            f"warning: the connection to {viewer.host} is not encrypted, and neither is the token; the "
            "default, 127.0.0.1, with a tunnel is safer"
        )
    return "\n".join([*lines, "Ctrl-C ends it"])
