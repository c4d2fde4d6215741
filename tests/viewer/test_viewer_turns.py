"""Many readers at once: who waits for a turn, and who does not."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.viewer_cases import ask, ask_json, serving


def test_no_more_readers_compute_at_once_than_there_are_turns(small_store, monkeypatch):
    counting, computing, most = threading.Lock(), 0, 0

    def describe_tile(i):
        nonlocal computing, most
        with counting:
            computing += 1
            most = max(most, computing)
        time.sleep(0.02)
        with counting:
            computing -= 1
        return {"number": i}

    with serving(small_store) as viewer, ThreadPoolExecutor(12) as readers:
        monkeypatch.setattr(viewer.scene, "turns", threading.Semaphore(2))
        monkeypatch.setattr(viewer.scene, "describe_tile", describe_tile)
        found = list(readers.map(lambda i: ask_json(viewer, f"/api/tiles/{i}"), range(12)))
    assert found == [{"number": i} for i in range(12)]
    assert most == 2


def test_while_others_compute_the_page_its_lists_and_stored_tiles_are_served(small_store, monkeypatch):
    with serving(small_store) as viewer:
        monkeypatch.setattr(viewer.scene, "turns", threading.Semaphore(0))
        for path in ("/", "/app.js", "/api/scene", "/api/entries/0", "/api/tiles/0.jpg"):
            assert ask(viewer, path)[0] == 200, path


def test_a_reader_whose_answer_fails_gives_its_turn_back(small_store, monkeypatch):
    with serving(small_store) as viewer:
        monkeypatch.setattr(viewer.scene, "turns", threading.Semaphore(1))
        assert [ask(viewer, f"/api/tiles/{i}")[0] for i in (999_999, 999_999, 0)] == [404, 404, 200]
