"""From rows to arms, contrasts, sentences, tables and figures."""

import csv
import io
import statistics
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from dirl.core.intervals import holm
from dirl.study.figures import curves_figure, draw_study
from dirl.study.matrix import StudyConfig
from dirl.study.measures import TITLES
from dirl.study.summarise import summarise_study
from dirl.study.summary import MeanSd, RowGate, RunRow
from dirl.study.table import arms_csv, study_markdown
from dirl.study.verdict import sentences, shown_direction
from tests.known import known

ENTROPY = {
    "vanilla": [0.80, 0.82, 0.79],
    "pool": [0.90, 0.93, 0.88],
    "grid": [0.91, 0.92, 0.89],
}
FAILED: dict[str, Any] = {"failed": "run: the loss is nan", "gate": None, "measures": {}}


@pytest.fixture
def rows(row):
    values = [(arm, seed, value) for arm, each in ENTROPY.items() for seed, value in enumerate(each)]
    simclr = [row("simclr", arm, seed, value) for arm, seed, value in values]
    return simclr + [
        row("byol", arm, seed, value, **(FAILED if (arm, seed) == ("pool", 1) else {}))
        for arm, seed, value in values
    ]


def named(summary, objective, arm, against):
    wanted = (objective, arm, against)
    return next(c for c in summary.contrasts if (c.objective, c.arm, c.against) == wanted)


def test_arms_are_means_over_seeds(config: StudyConfig, rows) -> None:
    summary = summarise_study(config, rows)
    assert [(one.objective, one.arm, one.runs, one.failed) for one in summary.arms] == [
        ("simclr", "vanilla", 3, 0), ("simclr", "pool", 3, 0), ("simclr", "grid", 3, 0),
        ("byol", "vanilla", 3, 0), ("byol", "pool", 2, 1), ("byol", "grid", 3, 0),
    ]  # fmt: skip
    pool = summary.arms[1].measures["entropy_joint"]
    assert pool.mean == pytest.approx(statistics.mean(ENTROPY["pool"]))
    assert pool.sd == pytest.approx(statistics.stdev(ENTROPY["pool"])) and pool.n == 3
    assert summary.arms[1].measures["knn"] == MeanSd(mean=None, sd=None, n=0)
    assert summary.failed == {"byol/pool/seed-1": "run: the loss is nan"}


def test_planned_contrasts_are_corrected_together_and_the_others_are_exploratory(config, rows) -> None:
    summary = summarise_study(config, rows)
    planned = [one for one in summary.contrasts if one.planned]
    assert len(planned) == 4 and len(summary.contrasts) == 6
    p = [one.measures["entropy_joint"].p for one in planned]
    assert p[0] == pytest.approx(ttest_rel(ENTROPY["pool"], ENTROPY["vanilla"]).pvalue)
    assert p[2:] == [None, None]  # BYOL lost a seed
    assert [one.primary.p_holm for one in planned] == holm(p)
    assert {one.standing for one in planned} == {"descriptive"}
    other = named(summary, "simclr", "grid", "vanilla")
    assert other.standing == "exploratory" and other.primary.p_holm is None and not other.no_loss
    assert other.measures["entropy_joint"].p is None and planned[0].measures["gini"].p is None
    assert named(summary, "byol", "pool", "vanilla").measures["entropy_joint"].seeds == 2


def test_ten_seeds_make_a_claim(config: StudyConfig, row) -> None:
    ten = config.model_copy(update={"seeds": tuple(range(10))})
    rows = [
        row(o, arm, seed, value + seed / 1000 * (arm == "pool"))
        for o in ("simclr", "byol")
        for arm, value in (("vanilla", 0.8), ("pool", 0.9), ("grid", 0.9))
        for seed in range(10)
    ]
    assert named(summarise_study(ten, rows), "simclr", "pool", "vanilla").standing == "claim"


def test_what_is_more_even_than_vanilla_but_not_than_a_control_is_said_plainly(
    config: StudyConfig, rows
) -> None:
    said = sentences(summarise_study(config, rows))
    assert any("pool against vanilla: entropy +0.100 over 3 seeds (descriptive)" in text for text in said)
    assert any("pool against grid" in text and "no difference shown" in text for text in said)
    assert "simclr: pool attends more evenly than vanilla, but not than grid (descriptive): nothing shows " \
        "that the cells did it." in said  # fmt: skip
    assert any(text.startswith("byol: pool against vanilla") and "too few seeds" in text for text in said)
    assert not any(text.startswith("byol: pool attends") for text in said)
    alone = config.model_copy(update={"contrasts": (("vanilla", "pool"),)})
    said = sentences(summarise_study(alone, rows))
    assert any("less evenly" in text for text in said)
    assert "simclr: pool attends more evenly than vanilla (descriptive), but was planned against no " \
        "control: nothing shows that the cells did it." in said  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
def test_a_score_that_falls_and_attention_that_is_nearly_uniform_are_told(config, row, turned: bool) -> None:
    pair = ("vanilla", "pool") if turned else ("pool", "vanilla")
    ten = config.model_copy(update={"seeds": tuple(range(10)), "contrasts": (pair, ("pool", "grid"))})
    level, score = {"vanilla": 0.8, "pool": 0.995, "grid": 0.9}, {"vanilla": 0.7, "pool": 0.6, "grid": 0.6}
    rows = []
    for seed in range(10):
        for arm, value in level.items():
            made = row("simclr", arm, seed, value + seed / 50000 * (arm == "pool"))
            scores = {"knn": score[arm], "linear": score[arm] / 2}
            rows.append(made.model_copy(update={"measures": made.measures | scores}))
    said = sentences(summarise_study(ten, rows))
    assert "simclr: pool attends more evenly than vanilla and grid (claim); " \
        "kNN −0.100 (a fall), linear −0.050 (a fall)." in said  # fmt: skip
    assert any("pool against grid" in text and "(claim), kNN 0.000, linear 0.000;" in text for text in said)
    assert [text for text in said if "nearly uniformly (mean entropy 0.995 > 0.99)" in text] == said[-1:]


BAD = RowGate(passed=False, label_free=True, with_labels="failed", reasons=["kNN"])


def test_where_a_run_fails_the_gate_the_other_seeds_stand_beside_all(config: StudyConfig, rows) -> None:
    rows[3] = rows[3].model_copy(update={"gate": BAD})
    summary = summarise_study(config, rows)
    assert summary.arms[1].gate_passed == 2 and summary.arms[1].label_free_gate_passed == 3
    one = named(summary, "simclr", "pool", "vanilla")
    assert one.ungated == 1 and one.measures["entropy_joint"].seeds == 3
    assert one.passing["entropy_joint"].seeds == 2
    assert one.passing["entropy_joint"].difference == pytest.approx((0.11 + 0.09) / 2)
    assert named(summary, "byol", "pool", "grid").passing is None
    said = sentences(summary)
    assert any("1 run fails the gate: +0.100 over the other 2; too few seeds for a test." in s for s in said)
    assert not any(text.startswith("simclr: pool attends") for text in said)
    table = study_markdown(summary)
    assert "| 0.017 | 2: +0.100 |" in table.replace(f"{one.primary.p_holm:.3f}", "0.017")
    for place in (0, 1, 2, 3, 4, 5):
        rows[place] = rows[place].model_copy(update={"gate": BAD})
    assert any(
        "6 runs fail the gate: no evidence about the method." in s
        for s in sentences(summarise_study(config, rows))
    )


@pytest.mark.parametrize("fails", [0.1, -0.3])
def test_a_difference_is_shown_only_if_it_is_over_all_seeds_and_over_those_that_pass(
    config: StudyConfig, row, fails: float
) -> None:
    ten = config.model_copy(update={"seeds": tuple(range(10)), "contrasts": (("pool", "vanilla"),)})
    rows = []
    for seed in range(10):
        passes = seed < 7
        level = 0.8 + (0.1 if passes else fails) + seed / 1000
        gate = {} if passes else {"gate": BAD}
        rows += [row("simclr", "vanilla", seed, 0.8), row("simclr", "pool", seed, level, **gate)]
    summary = summarise_study(ten, rows)
    one = named(summary, "simclr", "pool", "vanilla")
    # BYOL's contrast was planned, too, and has no run: it counts in the size of the family.
    assert one.passing["entropy_joint"].p_holm == pytest.approx(2 * one.passing["entropy_joint"].p)
    assert one.passing["entropy_joint"].seeds == 7 and one.passing["entropy_joint"].low > 0.09
    (said,) = [text for text in sentences(summary) if text.startswith("simclr: pool against")]
    assert ("attention is spread more evenly" in said) == (fails > 0)
    assert ("no difference shown" in said) == (fails < 0)


def test_the_csv_holds_every_measure(config: StudyConfig, rows) -> None:
    read = list(csv.DictReader(io.StringIO(arms_csv(summarise_study(config, rows)))))
    assert len(read) == 6 and read[4]["failed"] == "1"
    assert float(read[1]["entropy_joint_mean"]) == pytest.approx(0.9033, abs=1e-4)
    assert all(f"{name}_{what}" in read[0] for name in TITLES for what in ("mean", "sd"))
    assert read[0]["knn_mean"] == ""


def test_the_markdown_names_what_was_planned_and_what_failed(config: StudyConfig, rows) -> None:
    text = study_markdown(summarise_study(config, rows))
    planned, exploratory = text.index("## Planned"), text.index("## Exploratory")
    assert planned < text.index("| simclr | pool − vanilla |") < exploratory
    assert text.index("| simclr | grid − vanilla |") > exploratory
    assert "| simclr | pool | 3 | 3/3 | 0.903 ± 0.025 |" in text
    test = ttest_rel(ENTROPY["pool"], ENTROPY["vanilla"]).confidence_interval()
    ends = f"{test.low:+.3f} to {test.high:+.3f}"
    line = next(line for line in text.splitlines() if "| pool − vanilla |" in line)
    turned = f"{-test.high:+.3f} to {-test.low:+.3f}".replace("-", "−")
    assert f"| +0.100 ({ends}) | −0.100 ({turned}) |" in line  # entropy, Gini; nothing else was measured
    assert text.count("| Gini |") == 3 and "kNN" not in text and "drift" not in text
    assert "- byol/pool/seed-1: run: the loss is nan" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_figures_are_drawn_and_the_same_every_time(config: StudyConfig, rows, tmp_path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,attention/entropy\n1,5.0,\n2,4.0,0.9\n")
    curves = {"simclr/pool/seed-0": tmp_path / "metrics.csv"}
    summary = summarise_study(config, rows)
    figures = draw_study(summary, curves)
    assert set(figures) == {
        f"{name}.{kind}" for name in ("arms", "curves", "contrasts") for kind in ("png", "svg")
    }
    assert figures == draw_study(summary, curves)
    assert b"pool" in figures["arms.svg"] and b"loss" in figures["curves.svg"]


def test_curves_of_arms_begin_where_their_start_ends(config: StudyConfig, rows, tmp_path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n10,5.0\n40,4.0\n")
    rows = [
        row.model_copy(update={"kind": "start"}) if row.run == "simclr/vanilla/seed-0" else row
        for row in rows
    ]
    summary = summarise_study(config, rows)
    names = ("simclr/vanilla/seed-0", "simclr/pool/seed-0", "simclr/pool/seed-1")
    figure = curves_figure(summary, dict.fromkeys(names, tmp_path / "metrics.csv"))
    lines = {(line.get_label(), tuple(np.asarray(line.get_xdata()))) for line in figure.axes[0].lines}
    assert lines == {("vanilla", (10, 40)), ("pool", (50, 80)), ("pool", (10, 40))}


def test_a_study_of_which_nothing_worked_has_its_table_too(config: StudyConfig, row) -> None:
    rows = [
        row(o, arm, seed, 0, **FAILED)
        for o in config.objectives
        for arm in config.arms
        for seed in config.seeds
    ]
    summary = summarise_study(config, rows)
    assert "no seed has both" in study_markdown(summary) and draw_study(summary, {})


def ten_seeds(config: StudyConfig, row, more: dict[str, Any]) -> tuple[StudyConfig, list[RunRow]]:
    """A study of which the arm gains entropy, loses nothing of kNN, and gains half a point of linear."""
    stated = {"objectives": {"simclr": {}}, "seeds": tuple(range(10)), "contrasts": (("pool", "vanilla"),)}
    rows = []
    for seed in range(10):
        for arm, gain in (("vanilla", 0), ("pool", 1)):
            noise = 0.002 * ((seed * (gain + 2)) % 5 - 2)
            scores = {
                "entropy_joint": 0.8 + 0.1 * gain + noise,
                "knn": 0.6 + noise,
                "linear": 0.7 + 0.005 * gain + noise,
            }
            units = {
                "entropy_joint": {f"s{i}": [[scores["entropy_joint"] + i / 100], [1.0]] for i in range(9)}
            }
            rows.append(row("simclr", arm, seed, 0, measures=scores, units=units))
    return config.model_copy(update=stated | more), rows


def test_primary_measures_are_one_family_and_losses_are_another(config: StudyConfig, row) -> None:
    more = {"primary": ("entropy_joint", "linear"), "margins": {"knn": 0.01, "linear": "2.5 %"}}
    study, rows = ten_seeds(config, row, more)
    summary = summarise_study(study, rows)
    (one,) = summary.planned
    tested = [one.measures[name] for name in study.primary]
    assert [found.p_holm for found in tested] == holm([found.p for found in tested])
    assert one.measures["knn"].p is None and one.measures["knn"].p_holm is None
    a, b = ([known(r.measures["knn"]) for r in rows if r.arm == arm] for arm in ("pool", "vanilla"))
    p = ttest_1samp(np.subtract(a, b), -0.01, alternative="greater").pvalue
    assert one.no_loss["knn"].p == pytest.approx(p)
    assert one.no_loss["linear"].margin == pytest.approx(0.7 * 0.025)  # of vanilla's mean
    losses = list(one.no_loss.values())
    assert [found.p_holm for found in losses] == holm([found.p for found in losses])
    over = one.over_units["entropy_joint"]
    assert over.value == pytest.approx(one.primary.difference) and known(over.low) > 0.09
    said = "\n".join(sentences(summary))
    assert "linear +0.005 over 10 seeds; higher (Holm's p" in said
    assert "kNN does not fall by 0.01 or more (Holm's p" in said
    table = study_markdown(summary)
    assert "entropy, linear. The p in this table is that of entropy" in table
    assert "| 0.01 |" in table and "over seeds and units" in table
    assert all(not run.units for run in summary.runs)


def test_an_interval_over_units_that_holds_0_shows_nothing(config: StudyConfig, row) -> None:
    study, rows = ten_seeds(config, row, {})
    assert shown_direction(summarise_study(study, rows).planned[0]) == 1
    for place, one in enumerate(rows):  # all of the gain comes from one slide
        units = {f"s{i}": [[0.8 + 0.9 * (one.arm == "pool" and i == 0)], [1.0]] for i in range(9)}
        rows[place] = one.model_copy(update={"units": {"entropy_joint": units}})
    found = summarise_study(study, rows).planned[0]
    assert known(found.primary.p_holm) < 0.05 and shown_direction(found) == 0


def test_the_gate_of_starts_leaves_out_seeds_whose_start_fails(config: StudyConfig, row) -> None:
    study, rows = ten_seeds(config, row, {"gate": "starts", "start": {}})
    rows = [one.model_copy(update={"gate": BAD}) for one in rows]  # arms' own gates do not matter
    rows += [
        row("simclr", "start", s, 0.7, kind="start", **({"gate": BAD} if s == 3 else {})) for s in range(10)
    ]
    (one,) = summarise_study(study, rows).planned
    assert one.ungated == 1 and known(one.passing)["entropy_joint"].seeds == 9
