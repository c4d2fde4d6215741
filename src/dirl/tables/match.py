"""Matching the rows of a user's table to slides or tiles, and notes on what was read from it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath

from dirl.core.errors import ConfigError
from dirl.tables.read import SHOWN, SLIDE, Row, Table, alike, check_known, missing_words

ENDINGS = frozenset(
    {
        *(".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".czi", ".dcm", ".isyntax"),
        *(".vsi", ".ome", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"),
        *(".h5", ".hdf5", ".pt", ".pth", ".npy", ".npz"),
    }
)


@dataclass(frozen=True)
class Matched:
    """Rows by slide or tile, as its id, or as the name in `column` as written if it matches none.

    `unknown` are names of rows that match no slide or tile. `repeated` is the number of rows that repeat an
    earlier one; they are left out.
    """

    column: str
    rows: Mapping[str, Row]
    unknown: tuple[str, ...]
    repeated: int

    @property
    def known(self) -> list[str]:
        """Ids of slides or tiles that have a row."""
        unknown = set(self.unknown)
        return [name for name in self.rows if name not in unknown]


def match_slides(table: Table, known: Sequence[str], used: Sequence[str], where: object) -> Matched | None:
    """Match rows to slides, by any usual name of the column, with or without folders and suffixes.

    If several columns have a usual name, the first that matches any slide is used. If none has one, the
    result is None. Rows of one slide must agree in the columns `used`, which the command reads. Otherwise, or
    if a row has no name or matches two slides, it is a `ConfigError`.
    """
    columns = table.find_all(SLIDE)
    if not columns:
        return None
    meant: dict[str, set[str]] = {}
    for name in known:
        for form in forms(name):
            meant.setdefault(form, set()).add(name)

    def find(written: str) -> set[str]:
        if written in exact:
            return {written}
        return next((meant[form] for form in forms(written) if form in meant), set())

    exact = set(known)
    column = next((name for name in columns if any(find(row[name]) for row in table.rows)), columns[0])
    return _match(table, column, {row[column]: find(row[column]) for row in table.rows}, used, where)


def match_tiles(
    table: Table, column: str, known: Collection[str], used: Sequence[str], where: object
) -> Matched:
    """Match rows to tiles by their exact ids; see `match_slides`."""
    exact = set(known)
    return _match(table, column, {row[column]: {row[column]} & exact for row in table.rows}, used, where)


def forms(name: str) -> list[str]:
    """Return a slide's name without folders, then without one suffix after the other."""
    name = PureWindowsPath(name).name  # splits at both slashes
    found = [name]
    while (ending := "." + name.rpartition(".")[2].lower()) in ENDINGS and len(name) > len(ending):
        name = name[: -len(ending)]
        found.append(name)
    return found


def _match(
    table: Table, column: str, meant: Mapping[str, set[str]], used: Sequence[str], where: object
) -> Matched:
    rows: dict[str, Row] = {}
    unknown, repeated = [], 0
    for number, row in enumerate(table.rows, start=1):
        name, found = row[column], meant[row[column]]
        if not name:
            raise ConfigError(
                f"row {number} has no {column}", where=where, remedy="fill it in, or remove the row"
            )
        if len(found) > 1:
            listed = " or ".join(sorted(found))
            raise ConfigError(f"{name} may be {listed}", where=where, remedy="write the full name")
        key = next(iter(found), name)
        if key not in rows:
            rows[key] = row
            unknown += [] if found else [name]
        elif different := [each for each in used if rows[key][each] != row[each]]:
            one, other = (
                repr(each) if each else "no value" for each in (rows[key][different[0]], row[different[0]])
            )
            raise ConfigError(
                f"two rows have {column} {name}, with different {different[0]}: {one} and {other}",
                where=where,
                remedy="keep one of them",
            )
        else:
            repeated += 1
    return Matched(column, rows, tuple(unknown), repeated)


def describe_column(what: str, column: str, values: Sequence[str]) -> str:
    """Describe a column with its number of values: "patients from column case_id (12)"."""
    return f"{what} from column {column} ({len(set(values) - {''})})"


def describe_table(
    table: Table, matched: Matched, found: Sequence[str], used: Mapping[str, str], label: Sequence[str] = ()
) -> list[str]:
    """Describe in sentences what was read from a table: the columns `found`, and rows that were left out.

    `used` are columns that were read, by their content; ids in them that differ only in case are listed.
    `label` are columns that every used row must have. A patient or a centre that may be a missing value, such
    as unknown, is a `ConfigError`.
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
