"""YAML of settings: what PyYAML reads is read alike, and what no settings hold is refused in our words."""

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dirl.config import load_recipe
from dirl.config.read import MOST_VALUES, parse_yaml
from dirl.core.errors import ConfigError, DirlError
from dirl.study.matrix import MOST_RUNS, load_study

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    PLAIN,
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=6), each, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_plain_values_are_read_as_they_were_written(values):
    text = yaml.safe_dump(values)
    assert parse_yaml(text, "file") == yaml.safe_load(text) == values


@given(st.text(max_size=60) | st.text("ab:-[]{}&*!<>|'\"#%@`? \n\t0.\\", max_size=60))
def test_any_text_is_read_or_refused_in_our_words(text):
    try:
        parse_yaml(text, "file")
    except DirlError as error:
        assert isinstance(error, ConfigError) and error.where == "file" and error.remedy


def bomb():
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for here, before in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{here}: &{here} [{', '.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2024-13-45: 1", "line 1, 2024-13-45: '2024-13-45' is a date or time"),
        ("steps: 5\nviews:\n  size_px: 2024-01-02", "line 3, views.size_px: '2024-01-02' is a date or time"),
        ("steps: !!binary aGk=", "line 1, steps: 'aGk=' is a binary"),
        ("views: !!set {a, b}", "line 1, views: it is a set"),
        ("steps: !!int five", "line 1, steps: .*five"),
        ("? [a, b]\n: 1", "line 1: a key that is no word"),
        ("views:\n  size_px: 1\n  size_px: 2", "line 3, views: size_px stands twice"),
        (bomb(), f"more than {MOST_VALUES} values"),
        ("a: &a [*a]", "recursion"),
        ("[" * 20000, "recursion"),
        ("steps: 9" + "9" * 5000, "line 1, steps: "),
    ],
)
def test_what_no_settings_hold_is_refused_with_its_place(tmp_path, text, words):
    (tmp_path / "recipe.yaml").write_text(text)
    for load in (load_recipe, load_study):
        with pytest.raises(ConfigError, match=f"not valid YAML \\(.*{words}"):
            load(tmp_path / "recipe.yaml")


def test_references_are_followed_and_merged():
    text = "base: &base {x: 1, y: 2}\nmore:\n  <<: *base\n  y: 3\nsame: *base"
    assert parse_yaml(text, "file") == {
        "base": {"x": 1, "y": 2},
        "more": {"x": 1, "y": 3},
        "same": {"x": 1, "y": 2},
    }


def test_a_recipe_is_a_small_text_in_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_text("# " + "x" * 2**20)
    (tmp_path / "latin.yaml").write_bytes("steps: 5 # café".encode("latin-1"))
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name, words in {
        "pipe": "a pipe",
        "large": "more than settings need",
        "latin": "UTF-8",
        "loop": "cannot read it",
        "folder": "cannot read it",
        "none\0": "cannot read it",
    }.items():
        with pytest.raises(ConfigError, match=words):
            load_recipe(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("seeds", ["2000000000", str(MOST_RUNS + 1), str(MOST_RUNS // 2 + 1)])
def test_a_study_of_too_many_runs_is_refused_before_they_are_counted(tmp_path, seeds):
    study = f"recipe: demo\nobjectives: {{simclr: }}\narms: {{one: , two: {{steps: 3}}}}\nseeds: {seeds}\n"
    (tmp_path / "study.yaml").write_text(study)
    with pytest.raises(ConfigError, match=f"at most {MOST_RUNS} runs|at most {MOST_RUNS}; divide"):
        load_study(tmp_path / "study.yaml")
