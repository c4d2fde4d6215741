"""Notes on a user's table: the columns that were used, and the rows that were left out."""

from collections.abc import Mapping, Sequence

from dirl.tables.match import Matched
from dirl.tables.read import SHOWN, Table, alike, check_known, missing_words


def found_in(what: str, column: str, values: Sequence[str]) -> str:
    """Describe a column with its number of values: "patients from column case_id (12)"."""
    return f"{what} from column {column} ({len(set(values) - {''})})"


def account(
    table: Table, matched: Matched, found: Sequence[str], used: Mapping[str, str], label: Sequence[str] = ()
) -> list[str]:
    """Describe in sentences what was read from a table.

    Parameters
    ----------
    table
        The user's table.
    matched
        Its rows by slide or tile.
    found
        Descriptions of columns; see `found_in`.
    used
        Columns that were read, by their content. Ids that differ only in case are listed.
    label
        Columns that every used row must have.

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
                f"{name}: rows without {column}, left out: {counts.total()} ({ways}). These count as "
                f"missing: {missing_words()}."
            )
    if matched.repeated:
        notes.append(f"{name}: rows that repeat another row, counted once: {matched.repeated}.")
    for what, column in used.items():
        if (lacking := table.missing(column).total()) and column not in label:
            notes.append(f"{name}: rows without {column}: {lacking} of {len(table.rows)}.")
        if what in ("patients", "centres"):
            check_known((row[column] for row in table.rows), what.removesuffix("s"), name)
        if same := alike(row[column] for row in table.rows):
            listed = "; ".join(" and ".join(map(repr, group)) for group in same[:SHOWN])
            notes.append(
                f"{name}: {what} differ only in case, blanks or number format, and count as "
                f"different: {listed}."
            )
    if unused := table.unused((matched.column, *used.values(), *label)):
        notes.append(f"{name}: unused columns: {', '.join(unused)}.")
    return notes
