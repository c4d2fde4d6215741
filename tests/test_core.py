"""Errors, files, cards, recipes, plugins, processes: what every stage stands on."""

import ast
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import dirl
from dirl.config import PretrainRecipe, TileConfig, load_recipe, make, to_yaml
from dirl.core import plugins
from dirl.core.card import finish, new_card, read_card
from dirl.core.claim import claim
from dirl.core.digests import digest
from dirl.core.errors import (
    ConfigError,
    DirlError,
    PartlyFailedError,
    SlideError,
    StoreError,
    TrainingError,
    UserError,
)
from dirl.core.files import read_json, remove_parts, replacing, write_json
from dirl.core.layout import NOT_CONTENT, PART, part_of
from dirl.core.parallel import each

SOURCE = Path(dirl.__file__).parent


def imports(path):
    """Modules that a file imports when it is itself imported."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def light(name):
    """Whether a command may import a module before it has checked its arguments."""
    rooms = ("dirl.cli", "dirl.config", "dirl.core", "dirl.encoders.forms")
    if name.startswith("dirl."):
        return any(f"{name}.".startswith(f"{room}.") for room in rooms)
    return name.split(".")[0] in {"dirl", "pydantic", "typer", *sys.stdlib_module_names}


def test_the_direction_of_imports():
    for path in SOURCE.rglob("*.py"):
        package, names = path.relative_to(SOURCE).parts[0], imports(path)
        if package in {"slides", "cells", "store"}:
            assert not any(n.split(".")[0] in {"torch", "lightning", "timm"} for n in names), path
        if package in {"encoders", "objectives", "views"}:
            assert not any(n.startswith("dirl.slides") for n in names), path
        if package != "cli":
            assert not any(n.startswith("dirl.cli") for n in names), path
        if package == "cli":
            assert all(light(name) for name in names), path


def test_slides_and_cells_really_work_without_torch():
    code = "import sys, dirl.store.build, dirl.cells.run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_errors_say_what_where_and_what_to_do_and_travel_between_processes():
    error = SlideError("no mpp", where="a.svs", remedy="state it")
    assert str(error) == "a.svs: no mpp — state it"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and type(again) is SlideError
    assert (SlideError.exit_code, TrainingError.exit_code, UserError.exit_code) == (2, 1, 2)


def test_partly_failed_names_each_and_takes_the_graver_code():
    user, ours = SlideError("unreadable", where="a"), DirlError("broke", where="b")
    assert PartlyFailedError({"a": user}, 3).exit_code == 2
    both = PartlyFailedError({"a": user, "b": ours}, 3)
    assert both.exit_code == 1 and "a: unreadable" in str(both) and "2 failed, 3 done" in str(both)


def test_a_file_is_whole_or_absent(tmp_path):
    target = tmp_path / "deep" / "file"
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    for text in ("one", "two"):
        with replacing(target) as temporary:
            temporary.write_text(text)
    assert target.read_text() == "two" and len(list(target.parent.iterdir())) == 1


def test_a_directory_replaces_a_directory(tmp_path):
    for name in ("a", "b"):
        with replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["b"]


def test_parts_of_a_file_are_removed_and_not_those_of_one_that_begins_alike(tmp_path):
    mine = ("a.tar", "a.json", "a.nuclei.parquet", "a.statistics.json")
    others = ("a.b.tar", "ab.tar", "a.nuclei.b.json")
    for name in (*mine, *others):
        part_of(tmp_path / name).touch()
    (tmp_path / "a.tar").touch()
    remove_parts(tmp_path, "a")
    kept = {p.name.rsplit(".", 2)[0] for p in tmp_path.iterdir() if p.name.endswith(".part")}
    assert kept == {f".{name}" for name in others} and (tmp_path / "a.tar").exists()


def test_no_two_writers_take_the_same_temporary_name(tmp_path):
    names = {part_of(tmp_path / "x.json").name for _ in range(100)}
    assert len(names) == 100 and all(PART.fullmatch(name) for name in names)
    assert all(f"-{os.getpid()}-" in name for name in names)
    assert not any(PART.fullmatch(name) for name in ("x.part", ".x.part", ".x.json", "x.json"))


def test_claim_takes_up_equal_work_and_refuses_other(tmp_path):
    out = tmp_path / "out"
    first = claim(out, new_card("tile", {"mpp": 0.5}))
    assert claim(out, new_card("tile", {"mpp": 0.5})) == first
    claim(out, new_card("tile", {"mpp": 0.25}))  # no result is there to protect
    claim(out, new_card("tile", {"mpp": 0.5}))
    (out / "data").touch()
    with pytest.raises(StoreError, match=r"mpp 0.5 there, 1.0 now.*--overwrite"):
        claim(out, new_card("tile", {"mpp": 1.0}))
    claim(out, new_card("tile", {"mpp": 1.0}), overwrite=True)
    assert not (out / "data").exists()
    finish(out, read_card(out), {"tiles": 3})
    assert read_card(out, "tile").counts == {"tiles": 3} and read_card(out).finished


def test_an_overwriting_that_is_interrupted_can_be_done_again(tmp_path, monkeypatch):
    out = tmp_path / "out"
    finish(out, claim(out, new_card("tile", {"mpp": 0.5})), {})
    for name in "ab":
        (out / name).touch()

    def interrupted(path):
        path.unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dirl.core.claim.remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            claim(out, new_card("tile", {"mpp": 1.0}), overwrite=True)
    left = {path.name for path in out.iterdir()} - NOT_CONTENT
    assert len(left) == 2 and not read_card(out, "tile").finished
    for mpp in (0.5, 1.0):
        with pytest.raises(StoreError, match="--overwrite"):
            claim(out, new_card("tile", {"mpp": mpp}))
    claim(out, new_card("tile", {"mpp": 1.0}), overwrite=True)
    assert {path.name for path in out.iterdir()} - NOT_CONTENT == {"card.json"}


def test_claim_never_removes_what_another_stage_made(tmp_path):
    claim(tmp_path / "run", new_card("pretrain", {}))
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="made by `dirl pretrain`, not by `dirl export`"):
            claim(tmp_path / "run", new_card("export", {}), overwrite=overwrite)
    assert read_card(tmp_path / "run").stage == "pretrain"


def test_claim_never_removes_what_is_not_ours(tmp_path):
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(StoreError, match="was not made by dirl"):
        claim(tmp_path, new_card("tile", {}), overwrite=True)
    assert (tmp_path / "thesis.docx").exists()


@pytest.mark.parametrize("text", ["", "{", '{"stage": "tile", "nonsense": 1}', "[]"])
def test_a_damaged_card_is_an_error_not_a_crash(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(StoreError, match="damaged card"):
        read_card(tmp_path)


def test_a_card_that_was_changed_is_damaged_and_one_without_a_digest_is_read(tmp_path):
    claim(tmp_path / "out", new_card("tile", {"mpp": 0.5}))
    path = tmp_path / "out" / "card.json"
    values = json.loads(path.read_text())
    path.write_text(path.read_text().replace("0.5", "0.25"))
    with pytest.raises(StoreError, match="damaged card"):
        read_card(tmp_path / "out")
    del values["digest_of_card"]  # as earlier versions wrote it
    path.write_text(json.dumps(values))
    assert read_card(tmp_path / "out").config == {"mpp": 0.5}


def test_cards_of_another_stage_or_none(tmp_path):
    with pytest.raises(StoreError, match="no such directory"):
        read_card(tmp_path / "nowhere", "tile")
    with pytest.raises(StoreError, match="not a tile store"):
        read_card(tmp_path, "tile")
    claim(tmp_path, new_card("audit", {}))
    with pytest.raises(StoreError, match="made by `dirl audit`, not by `dirl tile`"):
        read_card(tmp_path, "tile")


def test_json_refuses_nan_rather_than_writing_what_others_cannot_read(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "x.json", {"µm": 1})
    assert read_json(tmp_path / "x.json") == {"µm": 1}


def test_digest_of_bytes_files_and_values(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert digest(b"abc") == digest(tmp_path / "f") == "ba7816bf8f01cfea"
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})


def test_unknown_keys_and_bad_values_are_named_with_the_keys_there_are():
    with pytest.raises(ConfigError, match=r"unknown key dense.wieght \(there are: .*weight"):
        make(PretrainRecipe, {"dense": {"wieght": 1}})
    with pytest.raises(ConfigError, match=r"mpp: .*greater than 0 \(got -1"):
        make(TileConfig, {"mpp": -1.0})
    with pytest.raises(ConfigError, match="crop_area must be"):
        make(PretrainRecipe, {"views": {"crop_area": [0.9, 0.1]}})


def test_recipes_by_name_file_and_overrides(tmp_path):
    shipped = load_recipe("demo")
    assert shipped.dense.weight > 0
    vanilla = load_recipe("demo", ["dense.weight=0", "views.crop_area=[0.5, 0.9]", "seed=7"])
    assert vanilla.dense.weight == 0 and vanilla.views.crop_area == (0.5, 0.9) and vanilla.seed == 7
    (tmp_path / "r.yaml").write_text(to_yaml(vanilla))
    assert load_recipe(tmp_path / "r.yaml") == vanilla


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("steps: [", [], "not valid YAML"),
        ("- a", [], "mapping"),
        ("!!python/object/apply:os.system ['true']", [], "not valid YAML"),
        ("steps: 5", ["steps"], "key=value"),
        ("steps: 5", ["steps.more=1"], "holds a value"),
        ("steps: 5", ["steps=["], "not valid YAML"),
    ],
)
def test_bad_recipes(tmp_path, text, overrides, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "r.yaml", overrides)


def test_an_unknown_recipe_lists_those_that_ship():
    with pytest.raises(ConfigError, match=r"name a YAML file, or one of: .*demo"):
        load_recipe("demmo")


def test_plugins_by_name_and_by_path():
    assert "simclr" in plugins.names("dirl.objectives")
    assert plugins.resolve("dirl.objectives", "simclr").__name__ == "SimCLR"
    assert plugins.resolve("dirl.objectives", "os.path:join") is os.path.join
    with pytest.raises(ConfigError, match=r"'hovernest': no such segmenter — there are: .*hematoxylin"):
        plugins.resolve("dirl.segmenters", "hovernest")
    with pytest.raises(ConfigError, match="cannot import it"):
        plugins.resolve("dirl.segmenters", "no.such.module:Thing")


def halve(number):
    if number % 2:
        raise SlideError("odd", where=number)
    return number // 2


def die(number):
    os._exit(9)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_yields_results_and_errors(workers):
    found = dict(each(halve, range(7), workers))
    assert found[6] == 3 and isinstance(found[3], SlideError) and len(found) == 7


def test_a_killed_process_is_explained():
    with pytest.raises(DirlError, match="killed a process"):
        list(each(die, range(3), 2))
