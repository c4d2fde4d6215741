"""A stage computes once, is continued after an interruption, and leaves no parts; its summary is typed."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dirl.core.card import Measuring, new_card, read_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, StoreError
from dirl.core.files import write_text
from dirl.core.intervals import Estimate
from dirl.core.results import SUMMARIES, FlatRecord, Summary, read_as, read_result
from dirl.core.stage import Work, carry_out


class Scores(FlatRecord):
    flat: ClassVar[str] = "metrics"

    name: str
    metrics: dict[str, Estimate]
    cost: float


class Found(Summary):
    tiles: int
    scores: Scores | None
    over: Estimate | None = None

    @property
    def counts(self) -> dict[str, object]:
        return {"tiles": self.tiles}

    def rows(self) -> list[dict[str, object]]:
        return [{"tiles": self.tiles}]


FOUND = Found(tiles=3, scores=Scores(name="a", metrics={"f1": Estimate(0.5, None, None)}, cost=1.0))


def compute(work: Work) -> Found:
    write_text(work.parts / "part", "done")
    return FOUND


def test_it_computes_once_and_reads_its_result_afterwards(tmp_path: Path) -> None:
    calls = []

    def counted(work: Work) -> Found:
        calls.append(work.out)
        return compute(work)

    out = tmp_path / "out"
    first = carry_out(new_card("probe", {"a": 1}), out, Found, counted)
    assert carry_out(new_card("probe", {"a": 1}), out, Found, counted) == first
    assert calls == [out] and first.summary == FOUND == read_as(out, Found).summary
    assert read_card(out).counts == {"tiles": 3} and repr(first) == f"<Found in '{out}': tiles=3>"
    carry_out(new_card("probe", {"a": 1}), out, Found, counted, again=True)
    assert len(calls) == 2
    with pytest.raises(StoreError, match="a 1 there, 2 now"):
        carry_out(new_card("probe", {"a": 2}), out, Found, counted)


def test_a_mapping_may_lie_beside_the_other_keys_and_what_is_not_given_is_not_written(tmp_path: Path) -> None:
    carry_out(new_card("probe", {}), tmp_path / "out", Found, compute)
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    f1 = {"value": 0.5, "low": None, "high": None}
    assert written == {"tiles": 3, "scores": {"name": "a", "f1": f1, "cost": 1.0}}
    assert list(written["scores"]) == ["name", "f1", "cost"]
    assert Found(tiles=1, scores=None).to_json() == {"tiles": 1, "scores": None}


def test_parts_are_kept_by_an_interruption_and_removed_by_the_finished_run(tmp_path: Path) -> None:
    out, card = tmp_path / "out", new_card("probe", {})

    def stopped(work: Work) -> Found:
        compute(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(card, out, Found, stopped)
    assert (out / "unfinished" / "part").exists() and not (out / "summary.json").exists()
    carry_out(card, out, Found, compute)
    assert not (out / "unfinished").exists()
    write_text(out / "unfinished" / "part", "left by a run that was killed after it had finished")
    carry_out(card, out, Found, compute)
    assert not (out / "unfinished").exists()


def test_a_summary_of_another_version_is_refused(tmp_path: Path) -> None:
    class Other(Found):
        slides: int

    carry_out(new_card("probe", {}), tmp_path / "out", Found, compute)
    with pytest.raises(StoreError, match=r"does not fit this version .*--overwrite"):
        read_as(tmp_path / "out", Other)


def test_a_table_needs_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = carry_out(new_card("probe", {}), tmp_path / "out", Found, compute)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        result.to_pandas()


@pytest.mark.parametrize("stage", SUMMARIES)
def test_results_are_read_by_the_stage_in_their_card(
    tmp_path: Path, stage: Measuring, monkeypatch: Any
) -> None:
    module, name = SUMMARIES[stage].split(":")
    kind = getattr(import_module(module), name)
    assert issubclass(kind, Summary)
    carry_out(new_card(stage, {}), tmp_path / "out", Found, compute)
    with pytest.raises(StoreError, match="does not fit this version"):  # it is read as its own type
        read_result(tmp_path / "out")
    monkeypatch.setattr(import_module(module), name, Found)
    assert read_result(tmp_path / "out").summary == FOUND


def test_every_summary_of_a_command_is_in_the_table() -> None:
    for place in SUMMARIES.values():
        import_module(place.split(":")[0])

    def last(model: type[Summary]) -> set[type[Summary]]:
        """Models that no other model extends."""
        return {model} if not model.__subclasses__() else set().union(*map(last, model.__subclasses__()))

    found = {f"{one.__module__}:{one.__name__}" for one in last(Summary)}
    assert {one for one in found if one.startswith("dirl.")} == set(SUMMARIES.values())


def test_results_of_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not an output of dirl"):
        read_result(tmp_path)
    claim(tmp_path / "run", new_card("pretrain", {}))
    with pytest.raises(
        StoreError, match=r"`dirl pretrain` writes no summary — name an output of one of: probe"
    ):
        read_result(tmp_path / "run")
    claim(tmp_path / "probe", new_card("probe", {}))
    with pytest.raises(StoreError, match="unfinished — run the same `dirl probe` again"):
        read_result(tmp_path / "probe")
