"""Results beside each other: against scikit-learn and by hand, and what may not stand in one table."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from lifelines.utils import concordance_index
from sklearn.metrics import balanced_accuracy_score, f1_score

from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, StoreError
from dirl.core.files import write_json
from dirl.core.journal import note_written
from dirl.core.owner import content
from dirl.evaluate.common.records import Resampling
from dirl.evaluate.compare.run import compare
from dirl.evaluate.compare.show import print_comparison
from dirl.evaluate.compare.statistics import cliques, cohens_h, two_sided
from dirl.evaluate.compare.summary import Pair
from dirl.store.index import write_parquet
from tests.known import known

COUNT = 120
TRUTH = np.array(["a", "b", "c"])[np.arange(COUNT) % 3]
GROUPS = np.arange(COUNT) // 6
INTERVAL = {"level": 0.95, "resamples": 1000, "over": "patients", "units": 20}


def guesses(right: float, seed: int) -> np.ndarray:
    """Predictions of which about a share is right."""
    generator = np.random.default_rng(seed)
    wrong = np.array(["a", "b", "c"])[generator.integers(0, 3, COUNT)]
    return np.where(generator.random(COUNT) < right, TRUTH, wrong)


def probed(
    folder: Path, name: str, right: float, seed: int, split: str = "s", over: str = "patients", **more: object
) -> Path:
    """A finished probe as `dirl probe` leaves it."""
    out = folder / name
    card = claim(out, new_card("probe", {"name": name}, {}))
    columns = {
        "tile_id": [f"t{i:03}" for i in range(COUNT)],
        "label": TRUTH.tolist(),
        "fold": (GROUPS % 5).tolist(),
        "group": GROUPS.tolist(),
        "unit": list(range(COUNT)) if over == "tiles" else GROUPS.tolist(),
        "knn20": guesses(right - 0.1, seed + 1).tolist(),
        "linear": guesses(right, seed).tolist(),
        "colour_histogram/knn20": guesses(0.3, 50).tolist(),
        "colour_histogram/linear": guesses(0.4, 51).tolist(),
        "untrained/linear": guesses(0.2, seed + 2).tolist(),
        "untrained/knn20": guesses(0.2, seed + 3).tolist(),
    }
    order = np.random.default_rng(seed).permutation(COUNT)  # rows may stand in any order
    write_parquet(out / "predictions.parquet", pa.table(columns | more).take(order))
    summary = {"split": {"digest": split, "scheme": "patients"}, "interval": INTERVAL | {"over": over}}
    write_json(out / "summary.json", summary)
    finish(out, card, {})
    return out


def happened() -> dict[str, np.ndarray]:
    """Times, and whether they are those of events."""
    generator = np.random.default_rng(9)
    return {"time": generator.exponential(3.0, COUNT).round(1), "event": generator.integers(0, 2, COUNT)}


def risks(right: float) -> np.ndarray:
    """Log risks that follow the times the more, the larger `right` is."""
    return -right * happened()["time"] + np.random.default_rng(4).normal(size=COUNT)


def trained(folder: Path, name: str, survival: bool = False) -> Path:
    """Finished slide models as `dirl mil` leaves them."""
    out = folder / name
    card = claim(out, new_card("mil", {"name": name}, {}))
    tables = []
    for model, right in (("mean", 0.4), ("abmil", 0.9)):
        columns = {
            "model": [model] * COUNT,
            "slide_id": [f"s{i:03}" for i in range(COUNT)],
            "group": [f"p{g}" for g in GROUPS],
            "unit": GROUPS.tolist(),
            "fold": np.zeros(COUNT, int) if survival else GROUPS % 5,
        }
        classes = {"label": TRUTH, "predicted": guesses(right, 3)}
        columns_of_truth = happened() | {"log_risk": risks(right)} if survival else classes
        order = np.random.default_rng(int(10 * right)).permutation(COUNT)  # rows may stand in any order
        tables.append(pa.table(columns | columns_of_truth).take(order))
    pyarrow.csv.write_csv(pa.concat_tables(tables), out / "predictions.csv")
    note_written(out / "predictions.csv")
    summary = {"split": {"digest": "m", "scheme": "patients"}, "interval": INTERVAL}
    write_json(out / "summary.json", summary)
    finish(out, card, {})
    return out


def test_survival_is_compared_by_concordance(tmp_path: Path, capsys) -> None:
    models = trained(tmp_path, "followed", survival=True)
    result = compare([models], tmp_path / "out")
    found, followed = result.summary.measures["slide"], happened()
    for model, right in (("mean", 0.4), ("abmil", 0.9)):
        value = found.entries[f"followed/{model}"]["concordance"].value
        theirs = concordance_index(followed["time"], -risks(right), followed["event"])
        assert value == pytest.approx(theirs)
    assert result.summary.metric == "concordance" and result.summary.chance == 0.5
    (pair,) = found.pairs
    assert (
        pair.one == "followed/mean" and known(pair.low) <= known(pair.difference) <= known(pair.high) < 0.05
    )
    assert found.best == "followed/abmil"
    print_comparison(result)
    assert capsys.readouterr().out.startswith("Concordance, chance 0.500")
    assert "% concordance with" in (result.path / "table.tex").read_text()
    assert "<th>concordance</th>" in (result.path / "table.html").read_text()


@pytest.mark.parametrize(("over", "units"), [("slides", 20), ("tiles", 120)])
def test_intervals_are_over_what_the_results_were_over(tmp_path: Path, over: str, units: int) -> None:
    results = [probed(tmp_path, name, right, 0, over=over) for name, right in (("a", 0.9), ("b", 0.5))]
    found = compare(results, tmp_path / "out").summary.interval
    assert (found.over, found.units) == (over, units)


def test_scores_are_scikit_learns_and_differences_are_paired(tmp_path: Path, capsys) -> None:
    good, same, bad = (
        probed(tmp_path, n, r, s) for n, r, s in (("good", 0.9, 0), ("same", 0.9, 0), ("bad", 0.5, 7))
    )
    result = compare([bad, good, same], tmp_path / "out")
    found = result.summary.measures["linear"]
    for name, right, seed in (("good", 0.9, 0), ("bad", 0.5, 7)):
        one, guess = found.entries[name], guesses(right, seed)
        assert one["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(TRUTH, guess))
        assert one["macro_f1"].value == pytest.approx(f1_score(TRUTH, guess, average="macro"))
    pair = next(p for p in found.pairs if (p.one, p.other) == ("good", "same"))
    assert (pair.difference, pair.low, pair.high, pair.p) == (0, 0, 0, 1)
    pair = next(p for p in found.pairs if (p.one, p.other) == ("bad", "good"))
    assert known(pair.high) < 0 and known(pair.p_holm) < 0.05 and known(pair.cohens_h) < -0.5
    assert found.best == "good" and ["good", "same"] in found.cliques
    names = [entry.name for entry in result.summary.entries]
    assert names[:3] == ["bad", "good", "same"] and names.count("colour histogram") == 1
    assert result.summary.interval == Resampling(level=0.95, resamples=1000, over="patients", units=20)

    files = {str(p.relative_to(result.path)) for p in content(result.path)}
    assert files >= {
        "table.csv",
        "table.tex",
        "table.html",
        "pairs.csv",
        "figures/linear.png",
        "figures/knn20.svg",
    }
    rows = list(csv.DictReader((result.path / "table.csv").read_text().splitlines()))
    assert len(rows) == len(names) * 2 * 2 and {row["split"] for row in rows} == {"s"}
    tex = (result.path / "table.tex").read_text()
    assert tex.count(r"\textbf") == 2 and r"\bottomrule" in tex and "split s" in tex
    page = (result.path / "table.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "") and "over bad" in page
    assert [n for n in names if n.endswith("untrained")] == ["bad, untrained", "good, untrained"]
    print_comparison(result)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("good") and line.count("*") == 2 for line in lines)
    assert all(len(line) <= 80 for line in lines[1:-1])
    assert compare([bad, good, same], tmp_path / "out") == result


def test_slide_models_are_lines_of_their_own(tmp_path: Path) -> None:
    result = compare([trained(tmp_path, "dino")], tmp_path / "out")
    assert [entry.name for entry in result.summary.entries] == ["dino/mean", "dino/abmil"]
    assert result.summary.measures["slide"].best == "dino/abmil"


def test_what_may_not_stand_in_one_table(tmp_path: Path) -> None:
    one = probed(tmp_path, "one", 0.9, 0)
    cases = {
        "another split": probed(tmp_path, "two", 0.9, 0, split="other"),
        "other labels": probed(tmp_path, "three", 0.9, 0, label=["a"] * COUNT),
        "beside one of": trained(tmp_path, "four"),
    }
    for reason, other in cases.items():
        with pytest.raises(ConfigError, match=reason):
            compare([one, other], tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ConfigError, match="two results are called one"):
        compare([one, probed(tmp_path / "elsewhere", "one", 0.8, 1)], tmp_path / "out")
    with pytest.raises(ConfigError, match="has other labels"):
        compare([cases["beside one of"], trained(tmp_path, "five", survival=True)], tmp_path / "out")
    claim(tmp_path / "begun", new_card("probe", {}, {}))
    with pytest.raises(StoreError, match="unfinished"):
        compare([one, tmp_path / "begun"], tmp_path / "out")
    finish(tmp_path / "study", claim(tmp_path / "study", new_card("study", {}, {})), {})
    with pytest.raises(StoreError, match="made by `dirl study`"):
        compare([one, tmp_path / "study"], tmp_path / "out")
    (one / "predictions.parquet").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged"):
        compare([one, cases["another split"]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_effect_size_and_p_by_hand() -> None:
    assert cohens_h(0.5, 0.5) == 0
    assert cohens_h(1.0, 0.0) == pytest.approx(np.pi)
    assert two_sided(np.array([1.0, 2, 3, -1, 1, 2, 3, 4, 5])) == pytest.approx(2 * 2 / 10)
    assert two_sided(np.array([np.nan])) is None


def test_cliques_are_the_largest_runs_that_hold_together() -> None:
    def pair(one: str, other: str, p: float) -> Pair:
        return Pair(one=one, other=other, difference=0, low=0, high=0, cohens_h=0, p=p, p_holm=p)

    pairs = [pair("a", "b", 0.5), pair("b", "c", 0.5), pair("a", "c", 0.01)]
    pairs += [pair(x, "d", 0.001) for x in "abc"]
    assert cliques(["a", "b", "c", "d"], pairs) == [["a", "b"], ["b", "c"]]
    assert cliques(["a", "b"], [pair("b", "a", 0.3)]) == [["a", "b"]]
    assert cliques(["a", "b"], [pair("b", "a", 0.03)]) == []
