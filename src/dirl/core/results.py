"""Typed results: what a command writes to ``summary.json``, and reads back by the same type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from dirl.core.boundary import parsing
from dirl.core.card import Stage, read_card
from dirl.core.checked import SUMMARY, read_summary, repair_advice
from dirl.core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import pandas as pd


# Type of the summary by stage. It is imported when a result of the stage is read.
SUMMARIES: dict[Stage, str] = {
    "probe": "dirl.evaluate.probe.summary:ProbeSummary",
    "finetune": "dirl.evaluate.finetune.summary:FinetuneSummary",
    "mil": "dirl.evaluate.mil.summary:MilSummary",
    "robust": "dirl.evaluate.robust.summary:RobustSummary",
    "tokens": "dirl.evaluate.tokens.summary:TokensSummary",
    "readouts": "dirl.evaluate.readouts.summary:ReadoutsSummary",
    "compare": "dirl.evaluate.compare.summary:CompareSummary",
    "audit": "dirl.audit.summary:AuditSummary",
    "map": "dirl.maps.summary:MapSummary",
    "study": "dirl.study.summary:StudySummary",
    "cells-report": "dirl.cells.report.summary:ReportSummary",
    "cells-score": "dirl.cells.scoring.summary:ScoreSummary",
    "cells-export": "dirl.cells.export:ExportSummary",
}


class Record(BaseModel):
    """A part of a summary.

    A field that was not given is not written. So a key may be absent, and None is written as null.
    """

    model_config = ConfigDict(frozen=True)

    def to_json(self) -> dict[str, object]:
        """Return what JSON holds of it."""
        return self.model_dump(mode="json", exclude_unset=True)


class FlatRecord(Record):
    """A record that writes one of its mappings flat into its own JSON object.

    Attributes
    ----------
    flat
        Name of the field that holds the mapping.
    """

    flat: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or cls.flat in data:
            return data
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        return own | {cls.flat: {key: value for key, value in data.items() if key not in own}}

    @model_serializer(mode="wrap")
    def _spread(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        spread: dict[str, object] = {}
        for key, value in write(self).items():
            spread |= value if key == self.flat else {key: value}
        return spread


class Summary(Record):
    """What a command found; see the command's own summary for its fields."""

    @property
    def counts(self) -> dict[str, object]:
        """Counts for the card, such as the number of tiles."""
        raise NotImplementedError

    def rows(self) -> Sequence[Mapping[str, object]]:
        """Return its main table, one mapping for each row."""
        raise NotImplementedError


S = TypeVar("S", bound=Summary)


@dataclass(frozen=True)
class Result(Generic[S]):
    """A finished command.

    Attributes
    ----------
    path
        Its output directory, with ``summary.json`` and ``card.json``.
    summary
        What ``summary.json`` holds.
    """

    path: Path
    summary: S

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={value}" for name, value in self.summary.counts.items())
        return f"<{type(self.summary).__name__} in {str(self.path)!r}: {counts}>"

    def to_pandas(self) -> "pd.DataFrame":
        """Return the main table as a data frame.

        Raises
        ------
        ConfigError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError(
                "pandas is not installed", where="to_pandas", remedy="pip install pandas"
            ) from None
        return pd.DataFrame(self.summary.rows())


def read_as(directory: Path, kind: type[S]) -> Result[S]:
    """Read a finished output as a type of summary. Its digest in the card is checked.

    A `StoreError` tells that it is missing or damaged, or that another version of dirl wrote other keys.
    """
    summary = read_summary(directory)
    again = repair_advice(read_card(directory).stage)
    with parsing(directory / SUMMARY, remedy=again, what="does not fit this version of dirl"):
        return Result(directory, kind.model_validate(summary))


def read_result(path: Path) -> Result[Summary]:
    """Read the finished output of any command that writes a summary.

    Parameters
    ----------
    path
        Output directory, such as that of `dirl audit` or `dirl probe`.

    Returns
    -------
    Result
        The path and the typed summary, as the command's function returned it.

    Raises
    ------
    StoreError
        If another command made it, if it is unfinished or damaged, or if another version of dirl wrote other
        keys.
    """
    path = Path(path)
    card = read_card(path)
    if card.stage not in SUMMARIES:
        remedy = f"name an output of one of: {', '.join(SUMMARIES)}"
        raise StoreError(f"`dirl {card.stage}` writes no summary", where=path, remedy=remedy)
    if card.finished is None:
        raise StoreError("unfinished", where=path, remedy=f"run the same `dirl {card.stage}` again")
    module, name = SUMMARIES[card.stage].split(":")
    return read_as(path, getattr(import_module(module), name))
