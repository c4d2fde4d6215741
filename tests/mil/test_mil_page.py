"""The page of slide models: complete, self-contained, with the numbers of the summary."""

from pathlib import Path

import pyarrow.csv

from dirl.evaluate.mil.run import mil
from dirl.report.html import format_number


def text_of(path: Path) -> str:
    html = (path / "report.html").read_text(encoding="utf-8")
    assert "http:" not in html.replace("http://www.w3.org", "") and "https:" not in html
    return html


def test_classes_have_curves_and_a_confusion_matrix(cohort, quick, tmp_path) -> None:
    features, labels = cohort()
    result = mil(features, labels, tmp_path / "out", quick, quiet=True)
    html = text_of(result.path)
    for one in result.summary.models.values():
        assert format_number(one.metrics["macro_auroc"]) in html
    assert html.count("data:image/svg+xml") == 2 and html.count('class="matrix"') == 2
    rows = pyarrow.csv.read_csv(result.path / "predictions.csv").to_pylist()
    right = [row for row in rows if row["model"] == "abmil" and row["label"] == row["predicted"] == "tumour"]
    hits = len(right)
    assert f">{hits}<small>" in html[html.index("ABMIL</h2>") :]


def test_names_of_classes_are_escaped(cohort, quick, tmp_path) -> None:
    features, labels = cohort()
    labels.write_text(labels.read_text().replace("tumour", "<b>tumour</b>"))
    html = text_of(mil(features, labels, tmp_path / "out", quick, quiet=True).path)
    assert "&lt;b&gt;tumour" in html and "<b>tumour" not in html


def test_survival_has_curves_by_risk(cohort, quick, tmp_path) -> None:
    columns = {"time": [20 - 8 * (i % 2) + i / 10 for i in range(24)], "event": [1] * 20 + [0] * 4}
    config = quick.model_copy(update={"survival": True})
    features, labels = cohort(columns)
    html = text_of(mil(features, labels, tmp_path / "out", config, quiet=True).path)
    assert "Kaplan–Meier" in html and html.count("data:image/svg+xml") == 2
    assert "concordance" in html and 'class="matrix"' not in html
