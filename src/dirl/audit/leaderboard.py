"""Encoders in the order of the primary measure, and what can be said of each: `leaderboard.csv`."""

import csv
import io

from dirl.audit.summary import Audited, AuditSummary, Difference, Findings, Line
from dirl.audit.verdict import excludes_zero


def leaderboard(found: Findings) -> list[Line]:
    """Rank the encoders by the primary measure in the last block, per head.

    An encoder has a rank only if it passes the gate and is audited by the same query as the first. Otherwise
    its evenness means nothing: an untrained encoder is nearly uniform, and a mean of rows is more even than
    each row. The others follow, then the controls.
    """
    first = found.encoders[0]
    pairs = {pair.encoder: pair for pair in found.differences}
    ranked: list[tuple[Audited, str]] = []
    others: list[tuple[Audited, str]] = []
    for one in found.encoders:
        gate = found.gates.get(one.name)
        comparable = gate is not None and gate.passed and one.query == first.query
        (ranked if comparable else others).append((one, _verdict(one, first, pairs.get(one.name), found)))
    ranked.sort(key=lambda each: -(each[0].primary.value or 0))
    places: list[tuple[int | None, tuple[Audited, str]]] = [
        *enumerate(ranked, 1),
        *((None, each) for each in others),
    ]
    return [
        Line(rank=rank, encoder=one.name, gate=_gate(one, found), verdict=verdict)
        for rank, (one, verdict) in places
    ]


def to_csv(summary: AuditSummary) -> str:
    """Write the leaderboard as CSV, see `AuditSummary.rows`; empty where there is no number."""
    rows = [
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in summary.rows()
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _gate(one: Audited, found: Findings) -> str | None:
    gate = found.gates.get(one.name)
    return None if gate is None else "passed" if gate.passed else "failed"


def _verdict(one: Audited, first: Audited, pair: Difference | None, found: Findings) -> str:
    """What can be said of an encoder compared with the first one, in a word or two."""
    if one.kind != "encoder":
        return "control"
    if one.name in found.failed:
        return "gate failed"
    if pair is None:
        return "reference"
    if one.query != first.query:
        return "other query"
    if first.name in found.failed:
        return "reference failed"
    if not excludes_zero(pair.primary):
        return "no difference seen"
    return "more even" if (pair.primary.value or 0) > 0 else "less even"
