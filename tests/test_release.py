"""What a release needs: workflows call what exists, the recipes follow pyproject.toml, the wheel is whole."""

import re
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from setuptools import build_meta

import dirl

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CONDA = {"torch": "pytorch", "openslide-bin": "openslide", "huggingface-hub": "huggingface_hub"}
CONDA |= {"matplotlib": "matplotlib-base"}


def jobs(path):
    return yaml.safe_load(path.read_text())["jobs"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_only_what_exists(path):
    steps = [step for job in jobs(path).values() for step in job["steps"]]
    assert steps and all(("run" in step) != ("uses" in step) for step in steps)
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    called = re.findall(r"\bmake ([\w-]+)", commands)
    assert called and set(called) <= TARGETS
    for name in re.findall(r"(?:src|tests|docs|examples|packaging)/[\w./-]+", commands):
        assert (ROOT / name).exists(), name
    for step in steps:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[\w./-]+", step.get("uses", "a/b@c"))  # a version is named


def test_jobs_wait_for_jobs_that_exist():
    for path in WORKFLOWS:
        needed = {job["needs"] for job in jobs(path).values() if "needs" in job}
        assert needed <= jobs(path).keys()


def test_the_matrix_has_every_python_that_the_metadata_names():
    matrix = jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert matrix["python"] == named
    assert {os.split("-")[0] for os in matrix["os"]} == {"ubuntu", "macos"}


def test_only_the_job_that_publishes_may_ask_for_an_identity():
    found = {
        (path.stem, name) for path in WORKFLOWS for name, job in jobs(path).items() if "permissions" in job
    }
    assert found == {("release", "publish")}
    assert all(yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"} for path in WORKFLOWS)


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")))
def test_a_form_for_issues_has_what_the_form_needs(path):
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    names = [part["id"] for part in form["body"]]
    assert names and len(set(names)) == len(names)
    assert all(part["attributes"]["label"] for part in form["body"])


def test_the_conda_recipe_requires_what_the_wheel_requires():
    text = (ROOT / "packaging/conda/recipe.yaml").read_text()
    recipe = yaml.safe_load(text)
    assert recipe["context"]["version"] == PROJECT["version"]
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"
    run = {
        Requirement(line).name: str(Requirement(line).specifier) for line in recipe["requirements"]["run"][1:]
    }
    wanted = {Requirement(line) for line in PROJECT["dependencies"]}
    # OpenSlide's library has its own version; the wheel adds a number of its own.
    assert run == {
        CONDA.get(one.name, one.name): ">=4.0.0" if one.name == "openslide-bin" else str(one.specifier)
        for one in wanted
    }
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["license_file"] == PROJECT["license-files"]


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    assert dirl.__version__ == PROJECT["version"]


def test_the_container_gets_every_file_that_the_wheel_is_made_of():
    ignored = (ROOT / ".dockerignore").read_text().split()
    needed = {"src", "pyproject.toml", PROJECT["readme"], PROJECT["license-files"][0]}
    assert {line[1:] for line in ignored if line.startswith("!")} == needed
    text = (ROOT / "Dockerfile").read_text()
    assert {"TORCH=cpu"} <= set(re.findall(r"^ARG (.+)", text, re.MULTILINE))


def test_the_wheel_has_every_file_of_the_package(tmp_path, monkeypatch):
    source = tmp_path / "source"  # elsewhere: a build leaves files behind
    shutil.copytree(ROOT / "src/dirl", source / "src/dirl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", PROJECT["readme"], "LICENSE"):
        shutil.copy(ROOT / name, source)
    monkeypatch.chdir(source)
    wheel = tmp_path / build_meta.build_wheel(str(tmp_path))
    held = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/dirl").rglob("*") if path.is_file()
    }
    assert {name for name in ours if "__pycache__" not in name} <= held
