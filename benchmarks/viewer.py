"""How long 64 readers of `dirl view` wait, if each asks again as soon as it has an answer.

A reader begins as the page does (page, scripts, scene, slide, tissue), then asks for random parts of the
slide, nuclei and tiles. Run it on a machine that does nothing else; the load is in the result.
"""

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import write

from dirl.config import CellsConfig, TileConfig

BEGIN = ("/", "/app.js", "/style.css", "/vendor/openseadragon.min.js", "/api/scene", "/api/entries/0")
LIMIT_S = 2.0
WAIT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="Tile store with cells; by default a drawn slide's.")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or draw_store(Path(folder))
        command = [sys.executable, "-m", "dirl.cli.main", "view", str(store), "--no-browser"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                line = server.stdout.readline()
                ready = time.perf_counter() - started
                found = ask_all(line, options.clients, options.seconds)
                asked_to_end = time.perf_counter()
                server.send_signal(signal.SIGTERM)
                server.wait(30)
                ended = time.perf_counter() - asked_to_end
            finally:
                server.kill()
    result = {
        "clients": options.clients,
        "asked_for_seconds": options.seconds,
        "seconds_until_ready": ready,
        "seconds_until_ended_by_sigterm": ended,
        **found,
        "p99_limit_seconds": LIMIT_S,
    }
    print(json.dumps(result, indent=2))
    print(write("viewer", result))


def draw_store(folder: Path) -> Path:
    """A store of one drawn slide, with cells."""
    from dirl.cells.run import cells
    from dirl.store.build import tile
    from dirl.synthetic import write as draw

    draw(folder / "slide.tiff", 1, (2048, 2048))
    tile([folder / "slide.tiff"], folder / "store", TileConfig(size_px=128), quiet=True)
    cells(folder / "store", CellsConfig(), quiet=True)
    return folder / "store"


def ask_all(line: str, clients: int, seconds: float) -> dict[str, Any]:
    """Let all clients begin at once; what they waited, in seconds."""
    matched = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", line)
    assert matched is not None, line
    port, token = int(matched[1]), matched[2]
    waited: list[list[float]] = [[] for _ in range(clients)]
    failed: list[str] = []
    gate = threading.Barrier(clients)

    def client(number: int) -> None:
        try:
            gate.wait(60)
            end = time.perf_counter() + seconds
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
            arrived = time.perf_counter()
            cookie = _let_in(connection, token)
            waited[number].append(time.perf_counter() - arrived)
            scene = json.loads(_ask(connection, "/api/scene", cookie)[1])
            entry = json.loads(_ask(connection, "/api/entries/0", cookie)[1])
            for path in _questions(scene, entry, number):
                if time.perf_counter() > end:
                    break
                took, _ = _ask(connection, path, cookie)
                waited[number].append(took)
            connection.close()
        except Exception as error:  # a thread's error is lost otherwise
            failed.append(repr(error))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + WAIT_S)
    times = np.array([took for each in waited for took in each])
    return {
        "answers": len(times),
        "failed": sorted(set(failed)),
        "answers_per_second": len(times) / seconds,
        "seconds": {
            "median": statistics.median(times),
            **{f"p{q}": float(np.percentile(times, q)) for q in (90, 99)},
            "max": float(times.max()),
        },
    }


def _let_in(connection: http.client.HTTPConnection, token: str) -> str:
    connection.request("GET", f"/?token={token}")
    answer = connection.getresponse()
    answer.read()
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def _ask(connection: http.client.HTTPConnection, path: str, cookie: str) -> tuple[float, bytes]:
    started = time.perf_counter()
    connection.request("GET", path, headers={"Cookie": cookie})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status in (200, 404), (path, answer.status, body[:200])
    return time.perf_counter() - started, body


def _questions(scene: dict[str, Any], entry: dict[str, Any], number: int) -> Iterator[str]:
    """What one reader asks for, without end."""
    yield from (*BEGIN, "/api/entries/0/tissue.png")
    rng = np.random.default_rng(number)
    width, height = entry["size_px"]
    top = int(np.ceil(np.log2(max(width, height))))
    tiles = entry["numbers"]
    while True:
        kind = rng.random()
        tile = tiles[int(rng.integers(len(tiles)))]
        if kind < 0.7:
            level = int(rng.integers(max(0, top - 4), top + 1))
            reduced = 2 ** (top - level)
            columns, rows = (max(1, -(-side // (256 * reduced))) for side in (width, height))
            yield f"/api/entries/0/{level}/{rng.integers(columns)}_{rng.integers(rows)}.jpg"
        elif kind < 0.85 and scene["cells"]:
            yield f"/api/entries/0/nuclei/0/{tile}"
        elif kind < 0.95:
            yield f"/api/tiles/{tile}.jpg"
        else:
            yield f"/api/tiles/{tile}"


if __name__ == "__main__":
    main()
