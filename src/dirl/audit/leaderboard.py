"""Encoders in the order of the primary measure, and what may be said of each: `leaderboard.csv`."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from dirl.audit.table import MEASURES
from dirl.audit.tiles import REGIONS
from dirl.audit.titles import PRIMARY
from dirl.audit.verdict import excludes_zero

ENDS = {"": "value", "_low": "low", "_high": "high"}
FACTS = ("query", "blocks", "heads", "token_um", "prior_contrast", "spec", "digest")
GATE = ("over_untrained", "over_colour")


def leaderboard(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rank the encoders of a summary by the primary measure in the last block, per head.

    Only what passes the gate and is audited by the same query as the first encoder has a rank: an untrained
    encoder is nearly uniform, and a mean of rows is more even than each of them. The others follow, then
    the controls.

    Returns
    -------
    list of dict
        ``rank`` (None without one), ``encoder``, ``gate`` (None of a control), ``verdict``.
    """
    first = summary["encoders"][0]
    pairs = {pair["encoder"]: pair for pair in summary["differences"]}
    lines = []
    for one in summary["encoders"]:
        gate = summary["gates"].get(one["name"])
        lines.append(
            {
                "rank": None,
                "encoder": one["name"],
                "gate": None if gate is None else "passed" if gate["passed"] else "failed",
                "verdict": _verdict(one, first, pairs.get(one["name"]), summary["gates"]),
            }
        )
    entropy = {one["name"]: one["last_block"]["per_head"][PRIMARY]["value"] for one in summary["encoders"]}
    queries = {one["name"]: one["query"] for one in summary["encoders"]}
    ranked = [
        line for line in lines if line["gate"] == "passed" and queries[line["encoder"]] == first["query"]
    ]
    ranked.sort(key=lambda line: -entropy[line["encoder"]])
    for rank, line in enumerate(ranked, 1):
        line["rank"] = rank
    return ranked + [line for line in lines if line["rank"] is None]


def to_csv(summary: Mapping[str, Any]) -> str:
    """Write the leaderboard as CSV: a row each, every measure of the last block per head with its interval.

    Empty where there is no number. ``difference`` is that of the primary measure to the first encoder,
    ``log2_nuclei`` and the like are enrichments.
    """
    encoders = {one["name"]: one for one in summary["encoders"]}
    pairs = {pair["encoder"]: pair["per_head"][PRIMARY] for pair in summary["differences"]}
    rows = []
    for line in summary["leaderboard"]:
        one, gate = encoders[line["encoder"]], summary["gates"].get(line["encoder"], {})
        values = {name: one["last_block"]["per_head"][name] for name in MEASURES}
        values |= {f"log2_{region}": one["enrichment"]["per_head"][region] for region in REGIONS}
        values |= {"difference": pairs.get(line["encoder"], {})}
        values |= {f"retrieval_{name}": gate.get(name, {}) for name in GATE}
        row = line | {"kind": one["kind"], "retrieval": gate.get("accuracy", {}).get("encoder")}
        for name, value in values.items():
            row |= {f"{name}{end}": value.get(key) for end, key in ENDS.items()}
        row |= {key: one[key] for key in FACTS}
        rows.append({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()})
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _verdict(
    one: Mapping[str, Any], first: Mapping[str, Any], pair: Mapping[str, Any] | None, gates: Mapping[str, Any]
) -> str:
    """What may be said of an encoder beside the first one, in a word or two."""
    if one["kind"] != "encoder":
        return "control"
    if not gates[one["name"]]["passed"]:
        return "gate failed"
    if pair is None:
        return "reference"
    if one["query"] != first["query"]:
        return "other query"
    if not gates[first["name"]]["passed"]:
        return "reference failed"
    if not excludes_zero(pair["per_head"][PRIMARY]):
        return "no difference seen"
    return "more even" if pair["per_head"][PRIMARY]["value"] > 0 else "less even"
