"""The report of a probe: right numbers, names as text, nothing from the network."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dirl.config import ProbeConfig
from dirl.evaluate.probe.run import probe
from dirl.report.confusion import confusion_rows
from tests.known import known


class Tables(HTMLParser):
    """Cells of each table, by row; the markup of the page must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "script"
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.mark.parametrize("classes", [2, 10])
def test_the_page_has_the_numbers(
    classes: int, make_features: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([1.0]))
    names = ["<script>alert('&')</script>", "a very long name of a class of tissue " * 3]
    names = (names + [f"class {i}" for i in range(8)])[:classes]
    generator = np.random.default_rng(0)
    truth = np.tile(np.arange(classes), 20)
    values = np.eye(classes, 12)[truth] + 0.6 * generator.normal(size=(len(truth), 12))
    patients = np.array([f"p{i}" for i in np.arange(len(truth)) // classes])
    features = make_features(
        values, generator.random((len(truth), 6)), np.array([name.strip() for name in names])[truth],
        patients=patients,
    )  # fmt: skip
    result = probe(features, "label", tmp_path / "out", ProbeConfig(bootstrap=20), quiet=True)
    text = (result.path / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=|url\(|@import|https?://""", text)
    parser = Tables()
    parser.feed(text)
    assert not parser.open
    scores, matrix, each = parser.tables
    linear = result.summary.results["features"].linear
    row = next(row for row in scores if row[1] == "linear")
    assert row[2].strip() == f"{linear.balanced_accuracy.value:.3f}"
    assert {row[0] for row in matrix[1:]} == {name.strip() for name in names}
    assert sum(int(row[1]) for row in each[1:]) == result.summary.tiles
    recalls = [float(row[3]) for row in each[1:]]
    assert np.mean(recalls) == pytest.approx(known(linear.balanced_accuracy.value), abs=1e-3)


def test_a_class_without_items_has_no_recall() -> None:
    first, second, third = confusion_rows(np.array([0, 0, 1]), np.array([0, 1, 1]), ("a", "b", "c"))
    assert (first.counts, first.recall, first.precision) == ((1, 1, 0), 0.5, 1.0)
    assert (second.recall, second.precision) == (1.0, 0.5)
    assert known(second.f1) == pytest.approx(2 / 3)
    assert (third.recall, third.precision, third.f1, third.shares) == (None, None, None, (0.0, 0.0, 0.0))
