"""Keep what a study found: ``python studies/record.py STUDY.yaml DIR`` writes results/STUDY.json beside it.

DIR is the output of `dirl study`, finished or not. The file keeps the measures and the gate of every run, the
arms, and the planned contrasts with their verdicts. It leaves out paths and units. It also leaves out
exploratory contrasts, which follow from the runs.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from dirl.core.card import read_card
from dirl.core.files import read_json, write_text
from dirl.study.matrix import expand, load_study
from dirl.study.summarise import summarise_study
from dirl.study.summary import RunRow
from dirl.study.verdict import sentences


def rounded(value: Any) -> Any:
    """Keep six digits of every number."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("study", type=Path)
parser.add_argument("directory", type=Path)
given = parser.parse_args()
study = load_study(given.study)
# The second line of a study's head.
second = given.study.read_text().splitlines()[1]
if not second.startswith("# Command:"):
    raise SystemExit(f"{given.study}: its second line names no command")
command = second.removeprefix("# Command:").split("   ")[0].strip()
paths = [given.directory / "results" / f"{run.name}.json" for run in expand(study)]
rows = [RunRow.model_validate(read_json(path)) for path in paths if path.exists()]
summary = summarise_study(study, rows)
card = read_card(given.directory, "study")
kept = {
    "study": given.study.name,
    "command": command,
    "started": card.started,
    "runs_done": len(rows),
    "runs_planned": len(paths),
    "hours_of_training": sum(row.measures.get("seconds") or 0 for row in rows) / 3600,
    "python": card.python,
    "versions": card.versions,
    "said": sentences(summary),
    "arms": [arm.model_dump(mode="json", exclude={"failed"}) for arm in summary.arms if arm.runs],
    "planned_contrasts": [one.to_json() for one in summary.planned],
    "runs": [row.model_dump(mode="json", exclude={"notes", "units"}, exclude_unset=True) for row in rows],
}
out = given.study.parent / "results" / f"{given.study.stem}.json"
write_text(out, json.dumps(rounded(kept), indent=1, ensure_ascii=False) + "\n")
print(f"{len(rows)} of {len(paths)} runs in {out}")
