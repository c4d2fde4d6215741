"""What may be said, for each kind of outcome."""

from typing import Any

import pytest

from dirl.audit.findings import Findings
from dirl.audit.summary import LeaderboardLine, Verdict
from dirl.audit.verdict import leaderboard, word_verdict
from tests.audit_cases import encoder, findings, gate, of


def judge(found: dict[str, Any]) -> Verdict:
    return word_verdict(Findings.model_validate(found))


def ranked(found: dict[str, Any]) -> list[LeaderboardLine]:
    return leaderboard(Findings.model_validate(found))


def test_rows_of_different_queries_are_not_compared() -> None:
    averaged = encoder("averaged", 0.9) | {"query": "mean patch"}
    notes = " ".join(judge(findings(A, averaged)).notes)
    assert "vanilla is audited by its cls query and averaged by its mean patch query" in notes
    assert "should not be compared" not in " ".join(judge(findings(A, B)).notes)


A, B = encoder("vanilla", 0.7), encoder("dirl", 0.8)


def test_a_difference() -> None:
    verdict = judge(findings(A, B))
    assert verdict.evidence
    assert (
        "On these 256 tiles the joint map of dirl is spread more evenly than that of vanilla"
        in verdict.headline
    )
    assert "0.700 → 0.800, difference +0.100 (95 % interval +0.090 to +0.110)" in verdict.headline
    assert any("single checkpoints" in note for note in verdict.notes)
    assert any("no downstream score" in note for note in verdict.notes)
    assert not any("slides" in note for note in verdict.notes)
    assert "less evenly" in judge(findings(A, B, change=-0.1)).headline


@pytest.mark.parametrize("change", [0.005, -0.005, 0.0])
def test_an_interval_with_zero_is_no_evidence(change: float) -> None:
    verdict = judge(findings(A, B, change=change))
    assert not verdict.evidence and verdict.headline.startswith("No evidence that on these")


def test_a_failed_gate_is_no_evidence_whatever_the_difference() -> None:
    failed = findings(A, B)
    failed["gates"]["dirl"] = gate(False, "the loss did not fall (1 to 2)")
    verdict = judge(failed)
    assert not verdict.evidence
    assert verdict.headline.startswith("No evidence: dirl does not pass the gate.")
    assert verdict.notes[0] == "dirl: the loss did not fall (1 to 2)."
    assert "more evenly" not in verdict.headline


def three() -> dict[str, Any]:
    """A reference, one that is more even, and one that is still more even and fails the gate."""
    found = findings(A, B, encoder("random", 0.98))
    (pair,) = found["differences"]
    found["differences"] = [pair | {"encoder": "dirl"}, pair]
    found["gates"]["random"] = gate(False, "its weights are random")
    return found


def test_one_that_fails_the_gate_does_not_silence_the_others() -> None:
    verdict = judge(three())
    assert verdict.evidence and "joint map of dirl is spread more evenly" in verdict.headline
    assert "No evidence of the others: random does not pass the gate." in verdict.headline
    assert not any("random attends nearly" in note or "to random" in note for note in verdict.notes)
    assert "of random" not in verdict.headline and "0.980" not in verdict.headline


def test_other_queries_are_not_in_the_headline() -> None:
    verdict = judge(findings(A, encoder("averaged", 0.9) | {"query": "mean patch"}))
    assert not verdict.evidence and "averaged" not in verdict.headline


def test_the_leaderboard_ranks_what_may_be_compared() -> None:
    found = three()
    assert [(one.rank, one.encoder, one.verdict) for one in ranked(found)] == [
        (1, "dirl", "more even"),
        (2, "vanilla", "reference"),
        (None, "random", "gate failed"),
        (None, "untrained", "control"),
    ]
    found["encoders"][2]["query"] = "mean patch"
    found["gates"]["random"]["passed"] = True
    assert ranked(found)[2].verdict == "other query"
    found["gates"]["vanilla"]["passed"] = False
    assert [one.verdict for one in ranked(found)][:2] == [
        "reference failed",
        "gate failed",
    ]
    assert "no difference seen" in {one.verdict for one in ranked(findings(A, B, change=0.005))}


def test_what_is_pointed_out() -> None:
    coarse = encoder("coarse", 0.995, patch_mass=of(0.2)) | {"token_um": 16.0, "prior_contrast": 0.1}
    notes = " ".join(judge(findings(A, coarse, change=0.0, nuclei=-0.3, over="tiles")).notes)
    for said in (
        "nearly uniformly (entropy 0.995 > 0.99)",
        "Only 20% of coarse's",
        "tokens of 16.0 µm are wider than a nucleus (prior contrast 0.10)",
        "The joint map does not show it: the heads of coarse are more alike",
        "moved away from nuclei",
        "not balanced attention",
        "come from 7 slides",
    ):
        assert said in notes, said


def test_one_encoder_is_described() -> None:
    verdict = judge(findings(A))
    assert verdict.evidence
    assert "normalised entropy of 0.700" in verdict.headline and "untrained" in verdict.headline


def test_never_speaks_of_a_method() -> None:
    for outcome in (findings(A, B), findings(A, B, change=0), findings(A)):
        assert "method" not in judge(outcome).headline
