"""What a command says of a user's table: what it took from which column, and what it left."""

from collections.abc import Mapping, Sequence

from dirl.tables.match import Matched
from dirl.tables.read import SHOWN, Table, alike, check_known, missing_words


def found_in(what: str, column: str, values: Sequence[str]) -> str:
    """Say what was found in which column, with the number of values: "patients from column case_id (12)"."""
    return f"{what} from column {column} ({len(set(values) - {''})})"


def account(
    table: Table, matched: Matched, found: Sequence[str], used: Mapping[str, str], label: Sequence[str] = ()
) -> list[str]:
    """Account for a table in sentences.

    Parameters
    ----------
    table
        The user's.
    matched
        Its rows by slide or tile.
    found
        What was taken from which column; see `found_in`.
    used
        Columns that were read, by what they hold; of ids, those that differ only in case are named.
    label
        Columns without which a row is left out.

    Returns
    -------
    list of str

    Raises
    ------
    ConfigError
        If a patient or a centre may be a missing value, such as unknown.
    """
    name = table.path.name
    notes = [f"{name}: {', '.join(found)}."] if found else []
    notes += [f"{name}: {note}" for note in table.notes]
    for column in label:
        if counts := table.missing(column):
            ways = ", ".join(f"{word or 'empty'}: {count}" for word, count in sorted(counts.items()))
            notes.append(
                f"{name}: rows without {column}, left out: {counts.total()} ({ways}). Missing are "
                f"{missing_words()}."
            )
    if matched.repeated:
        notes.append(f"{name}: rows that repeat another one, counted once: {matched.repeated}.")
    for what, column in used.items():
        if (lacking := table.missing(column).total()) and column not in label:
            notes.append(f"{name}: rows without {column}: {lacking} of {len(table.rows)}.")
        if what in ("patients", "centres"):
            check_known((row[column] for row in table.rows), what.removesuffix("s"), name)
        if same := alike(row[column] for row in table.rows):
            listed = "; ".join(" and ".join(map(repr, group)) for group in same[:SHOWN])
            notes.append(
                f"{name}: {what} differ only in case, blanks or the form of a number, and count as "
                f"different: {listed}."
            )
    if unused := table.unused((matched.column, *used.values(), *label)):
        notes.append(f"{name}: columns that are not used: {', '.join(unused)}.")
    return notes
