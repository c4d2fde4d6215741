"""The server: what it answers, and what it refuses."""

import hashlib
import http.client
import io
import re
import shutil
import socket
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

import dirl.viewer
from dirl.core.card import note_change
from dirl.core.errors import ConfigError
from dirl.store.dataset import TileStore
from dirl.viewer.run import how_to_reach, open_viewer, view
from dirl.viewer.server import is_allowed_host, read_assets
from tests.viewer_cases import ask, ask_json, let_in, map_values, serving, write_map

STATIC = Path(dirl.viewer.__file__).parent / "static"


def pixels(body):
    return np.asarray(Image.open(io.BytesIO(body)))


def test_the_page_and_everything_that_it_names_is_there(viewer):
    status, headers, body = ask(viewer, "/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="([^"]+)"', body.decode()):
        assert ask(viewer, name)[0] == 200, name
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert (STATIC / name).exists(), name


def test_headers_keep_other_sites_and_scripts_out(viewer):
    for path in ("/", "/app.js", "/api/scene", "/nowhere"):
        headers = ask(viewer, path)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers


def raw(viewer, path, method="GET", host="localhost", cookie=None):
    """Ask with a path just as it stands: clients tidy up theirs."""
    return exchange(viewer, path, method, host, cookie)[::2]


def exchange(viewer, path, method="GET", host="localhost", cookie=None):
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True)
        if host is not None:
            connection.putheader("Host", host)
        connection.putheader("Cookie", let_in(viewer)["Cookie"] if cookie is None else cookie)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc/passwd",
        "/vendor/../../__init__.py",
        "/vendor/..\\..\\server.py",
        "//etc/passwd",
        "/server.py",
        "/static/app.js",
        "/vendor/README.md",
        "/api/tiles/../../card.json",
        "/api/tiles/-1",
        "/api/tiles/99999",
        "/api/tiles/99999.jpg",
        "/api/tiles/1e3",
        "/api/entries/0/nuclei/..%2f..%2fcard/0",
        "/api/entries/0/nuclei/7/0",
        "/api/entries/5",
        "/api/entries/0/99/0_0.jpg",
        "/api/entries/0/9/9_0.jpg",
        "/api/entries/0/measures/0/1/0?measure=tile_id",
        "/api/entries/0/measures/0/1/0?measure=../x",
        "/api/entries/0/measures/9/1/0?measure=entropy",
        "/api/maps/0/0/6/0_0.png?colours=../../x&from=0&to=1",
        "/api/maps/0/0/6/0_0.png?colours=viridis&from=nan&to=1",
        "/api/maps/0/0/6/0_0.png",
        "/api/maps/7/regions",
        "/api/maps/0/regions.geojson",
        "/api/maps/0/9/6/0_0.png?colours=viridis&from=0&to=1",
        "/api/maps/0/0/7/0_0.png?colours=viridis&from=0&to=1",
        "/api/maps/0/0/piece.png?x=0&y=0&side=1e9&colours=viridis&from=0&to=1",
        "/api/maps/0/0/piece.png?x=inf&y=0&side=8&colours=viridis&from=0&to=1",
        "*",
        "/%00",
    ],
)
def test_nothing_lies_elsewhere(viewer, path):
    status, body = raw(viewer, path)
    assert status == 404 and body == b"not found\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_only_get(viewer, method):
    assert raw(viewer, "/api/scene", method)[0] == 405


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/api/scene", "/api/entries/0/9/1_1.jpg", "/api/tiles/0.jpg", "/nowhere"]
)
def test_without_the_token_nothing_is_shown(viewer, path):
    wrong = [
        "",
        "nonsense",
        f"other={viewer.token}",
        f"{viewer.cookie}=",
        f"{viewer.cookie}={viewer.token[:-1]}",
        f"{viewer.cookie}=ü",
    ]
    for cookie in wrong:
        status, body = raw(viewer, path, cookie=cookie.encode())
        assert status == 403 and b"dirl view" in body, cookie
    assert raw(viewer, f"{path}?token={viewer.token[:-1]}", cookie="")[0] == 403


def test_the_printed_address_lets_in_and_leaves_the_token_out_of_the_link(viewer):
    status, headers, _ = exchange(viewer, f"/?token={viewer.token}", cookie="")
    assert status == 303 and headers["Location"] == "/"
    cookie, *rules = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} == set(rules)
    assert raw(viewer, "/api/scene", cookie=cookie)[0] == 200
    # It leads nowhere else.
    assert exchange(viewer, f"//evil.example/?token={viewer.token}", cookie="")[1]["Location"] == "/"
    assert viewer.url == f"{viewer.address}?token={viewer.token}" and len(viewer.token) == 32


def test_every_server_has_its_own_token(viewer, small_store):
    with serving(small_store) as other:
        assert other.token != viewer.token and other.cookie != viewer.cookie
        assert raw(other, "/", cookie=let_in(viewer)["Cookie"])[0] == 403


def test_other_names_than_its_own_are_refused(viewer):
    assert raw(viewer, "/", host="evil.example")[0] == 421
    assert raw(viewer, "/", host=f"evil.example:{viewer.port}")[0] == 421
    assert raw(viewer, "/", host=None)[0] == 421
    # A tunnel may end at another port.
    assert raw(viewer, "/", host="localhost:9")[0] == 200
    assert raw(viewer, "/", host="127.0.0.1")[0] == 200


@pytest.mark.parametrize(
    ("header", "bound", "allowed"),
    [
        ("localhost:80", "127.0.0.1", True),
        ("[::1]:80", "::1", True),
        ("10.1.2.3:80", "0.0.0.0", True),
        ("node7:80", "node7", True),
        ("node7:80", "0.0.0.0", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("", "", False),
        ("[", "127.0.0.1", False),
    ],
)
def test_allowed_hosts(header, bound, allowed):
    assert is_allowed_host(header, bound) == allowed


def test_scene_and_entry(viewer):
    scene = ask_json(viewer, "/api/scene")
    assert [one["name"] for one in scene["entries"]] == ["slide"]
    assert [one["name"] for one in scene["maps"]] == ["first, block 1", "second, block 1", "first, block 0"]
    assert [one["block"] for one in scene["maps"]] == [1, 1, 0]
    assert scene["cells"] == ["hematoxylin"] and scene["features"]
    assert all(len(palette) == 256 for palette in scene["colours"].values())
    entry = ask_json(viewer, "/api/entries/0")
    assert entry["size_px"] == [512, 512] and entry["side_px"] == 64 and entry["note"] == ""
    assert len(entry["x"]) == len(entry["numbers"]) == scene["entries"][0]["tiles"]


def test_the_slide_in_deep_zoom_tiles(viewer):
    assert pixels(ask(viewer, "/api/entries/0/9/1_1.jpg")[2]).shape == (256, 256, 3)
    assert pixels(ask(viewer, "/api/entries/0/0/0_0.jpg")[2]).shape == (1, 1, 3)


def test_tissue(viewer):
    rgba = pixels(ask(viewer, "/api/entries/0/tissue.png")[2])
    assert rgba.shape == (32, 32, 4) and 0 < (rgba[..., 3] > 0).mean() <= 1


def test_a_map_is_coloured_by_its_numbers(viewer):
    query = "colours=viridis&from=0&to=2"
    found = pixels(ask(viewer, f"/api/maps/0/1/6/0_0.png?{query}")[2])
    values = map_values(0)[1]
    assert found.shape == (64, 64, 4)
    assert np.array_equal(found[..., 3] == 0, np.isnan(values))
    palette = ask_json(viewer, "/api/scene")["colours"]["viridis"]
    expected = palette[round(float(values[10, 20]) / 2 * 255)]
    assert "#{:02x}{:02x}{:02x}".format(*found[10, 20, :3]) == expected
    # The piece under a tile: its tokens, one pixel each.
    piece = pixels(ask(viewer, f"/api/maps/0/1/piece.png?x=64&y=128&side=64&{query}")[2])
    assert np.array_equal(piece, found[16:24, 8:16])
    # Beyond the map there is nothing.
    assert pixels(ask(viewer, f"/api/maps/0/1/piece.png?x=480&y=0&side=64&{query}")[2])[:, 4:, 3].max() == 0


def test_top_regions_come_as_rings(viewer):
    (region,) = ask_json(viewer, "/api/maps/0/regions")
    assert region == [[[128, 128], [384, 128], [384, 384], [128, 384], [128, 128]]]
    assert ask_json(viewer, "/api/scene")["maps"][0]["regions"] == 1


def test_a_map_that_begins_elsewhere_on_the_slide_lies_there(small_store, tmp_path):
    """As on a slide that QuPath crops: the map, its regions and the page's coordinates meet at level 0."""
    folder = write_map(tmp_path / "map", "moved", map_values(0), offset_px=(64, 32))
    query = "colours=viridis&from=0&to=2"
    with serving(small_store, maps=[folder]) as viewer:
        whole = pixels(ask(viewer, f"/api/maps/0/1/6/0_0.png?{query}")[2])
        piece = pixels(ask(viewer, f"/api/maps/0/1/piece.png?x=128&y=160&side=64&{query}")[2])
        assert np.array_equal(piece, whole[16:24, 8:16])
        (region,) = ask_json(viewer, "/api/maps/0/regions")
        assert region[0][:2] == [[192, 160], [448, 160]]
        assert ask_json(viewer, "/api/scene")["maps"][0]["offset_px"] == [64, 32]


def test_a_damaged_file_is_told_and_the_rest_is_served(small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "store")
    slides = tmp_path / "store" / "slides.json"
    slides.write_text(slides.read_text().replace("slide.tif", "gone.tif"))
    note_change(tmp_path / "store", "slides.json")
    store = TileStore.open(tmp_path / "store")
    offset, length = (store.index[name][0].as_py() for name in ("offset", "length"))
    with (store.path / store.index["shard"][0].as_py()).open("rb+") as shard:
        shard.seek(offset)
        shard.write(bytes(length))
    with serving(store.path) as running:
        answers = [ask(running, f"/api/entries/0/9/{x}_{y}.jpg") for x in (0, 1) for y in (0, 1)]
        assert sorted(status for status, _, _ in answers) == [200, 200, 200, 500]
        (said,) = [body.decode() for status, _, body in answers if status == 500]
        assert "differ from the written ones" in said and "dirl tile" in said and "Traceback" not in said


def test_a_port_that_is_taken_is_an_error(small_store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen"):
            open_viewer(small_store, port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot listen"):
        open_viewer(small_store, host="no.such.host.invalid")


def test_it_binds_loopback_and_says_how_to_reach_it(small_store, viewer):
    assert viewer.server_address[0] == "127.0.0.1"
    said = how_to_reach(viewer)
    assert f"ssh -L {viewer.port}:localhost:{viewer.port}" in said and said.count(viewer.token) == 2
    with serving(small_store, host="0.0.0.0") as everywhere:
        assert "warning" in how_to_reach(everywhere) and "ssh" not in how_to_reach(everywhere)


def test_the_browser_is_given_a_page_of_ones_own_and_not_the_token(small_store, monkeypatch):
    seen = []

    def open_page(address):
        page = Path(urlsplit(address).path)
        seen.append((address, page, page.read_text(), page.stat().st_mode))
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", open_page)
    view(small_store)
    ((address, page, text, mode),) = seen
    (token,) = re.findall(r"url=http://127\.0\.0\.1:\d+/\?token=([\w-]+)", text)
    assert token not in address and mode & 0o077 == 0 and not page.exists()


def test_what_is_vendored_is_what_its_readme_says():
    (line,) = [
        row for row in (STATIC / "vendor/README.md").read_text().splitlines() if "openseadragon.min" in row
    ]
    held = (STATIC / "vendor/openseadragon.min.js").read_bytes()
    assert hashlib.sha256(held).hexdigest() in line
    assert set(read_assets()) >= {"/", "/app.js", "/vendor/openseadragon.min.js"}
