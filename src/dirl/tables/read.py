"""Reading a user's CSV file with any usual delimiter, encoding, quotes and missing values."""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dirl.core.boundary import HEAD_BYTES, check_substitute, parsing, refuse_special
from dirl.core.errors import ConfigError

Row = dict[str, str]
NUMBER = re.compile(r"\d+(\.\d+)?")

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# pandas reads these as missing, too. A lower-case "none" or "na" may be a class.
MISSING_WORDS = ("NA", "N/A", "n/a", "<NA>", "#N/A", "nan", "NaN", "NAN", "null", "Null", "NULL", "None")
# Missing values in tables of TCGA and GDC.
MISSING_TCGA = ("[Not Available]", "[Not Applicable]", "[Not Evaluated]", "[Unknown]", "'--")
MISSING = (*MISSING_WORDS, *MISSING_TCGA)
# A class or a patient with such a name may be a missing value.
DOUBTFUL = (
    "unknown",
    "missing",
    "not available",
    "not applicable",
    "not reported",
    "not evaluated",
    "unk",
    "tbd",
)
PATIENT = (
    *("patient_id", "patient", "case_id", "case", "submitter_id", "case_submitter_id", "cases.submitter_id"),
    *("bcr_patient_barcode", "patient_barcode", "subject_id", "subject"),
)
CENTRE = ("centre", "center", "centre_id", "center_id", "hospital", "institution", "source_site")
SLIDE = (
    *("slide_id", "slide", "slide_name", "image_id", "image", "filename", "file_name", "file"),
    *("wsi", "wsi_id", "wsi_name", "path", "file_path", "slide_path", "wsi_path"),
)
REMEDY = "save it as CSV in UTF-8, with a header and one row per line"
SHOWN = 5
SAMPLE = 50  # number of rows used to find the delimiter


@dataclass(frozen=True)
class Table:
    """A user's table.

    `columns` are names as written. `rows` are fields by column, without blanks around them, and empty if
    missing. `written` has missing values as they were written, such as ``NA``. `notes` tell the user how it
    was read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    written: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def find(self, names: Sequence[str]) -> str | None:
        """Find the first of some names among the columns, ignoring case, blanks and punctuation."""
        there = {_plain(name): name for name in reversed(self.columns)}
        there |= {name: name for name in self.columns}  # exact names win if two differ in punctuation only
        found = (there.get(name, there.get(_plain(name))) for name in names)
        return next((name for name in found if name is not None), None)

    def find_filled(self, names: Sequence[str]) -> str | None:
        """Find the first of some names whose column has a value, else the first existing column.

        Values that are spread over two columns are a `ConfigError`.
        """
        columns = self.find_all(names)
        filled = [name for name in columns if any(row[name] for row in self.rows)]
        if not filled:
            return columns[0] if columns else None
        first, *others = filled
        for other in others:
            if gaps := sum(not row[first] and bool(row[other]) for row in self.rows):
                raise ConfigError(
                    f"{gaps} rows have no {first}, but a {other}",
                    where=self.path,
                    remedy=f"fill in {first} in every row, or remove one of the two columns",
                )
        return first

    def find_all(self, names: Sequence[str]) -> list[str]:
        """Find all columns with one of some names, in the order of the names."""
        found = (self.find((name,)) for name in names)
        return list(dict.fromkeys(name for name in found if name is not None))

    def missing(self, column: str) -> Counter[str]:
        """Count the missing values of a column by their spelling."""
        pairs = zip(self.rows, self.written, strict=True)
        return Counter(written[column] for row, written in pairs if not row[column])

    def unused(self, used: Iterable[str]) -> list[str]:
        """Return the columns that are not used."""
        return [name for name in self.columns if name not in set(used)]


def read_csv(path: Path, where: object = None) -> Table:
    """Read a CSV file with a header. Errors name `where`, by default the file.

    Fields are separated by commas, semicolons or tabs. The encoding is UTF-8 or UTF-16, with or without a
    byte order mark. Other files are read as Windows-1252 (latin-1), with a note. Two columns of the same name
    are a `ConfigError`, as is a row with more fields than the header.
    """
    where = path if where is None else where
    refuse_special(path, kind=ConfigError)
    if not path.is_file():
        reason = "a folder, not a file" if path.is_dir() else "no such file"
        raise ConfigError(reason, where=where, remedy="give a CSV file")
    with parsing(where, remedy=REMEDY, kind=ConfigError, what="cannot be read as CSV"):
        data = path.read_bytes()
    text, notes = _decode(data, where)
    with parsing(where, remedy=REMEDY, kind=ConfigError, what="cannot be read as CSV"):
        lines = _split(text)
    header, body = (lines[0], lines[1:]) if lines else ([], [])
    columns = _columns(header, body, where)
    written = []
    for number, fields in enumerate(body, start=1):
        if any(_stripped(field) for field in fields[len(columns) :]):
            raise ConfigError(
                f"row {number} has {len(fields)} fields, the header has {len(columns)}",
                where=where,
                remedy="start the file with the header, and put fields with a comma into double quotes",
            )
        fields = [*fields, *[""] * (len(columns) - len(fields))]
        written.append(dict(zip(columns, map(_stripped, fields), strict=False)))
    pairs = {name: {"+"} & {row[name][:1] for row in written} for name in columns}
    rows = tuple(
        {name: without_missing(value, signs=bool(pairs[name])) for name, value in row.items()}
        for row in written
    )
    return Table(path, tuple(columns), rows, tuple(written), tuple(notes))


def without_missing(value: str, *, signs: bool = False) -> str:
    """Return a value, or an empty text if it means a missing value: a usual word, or only punctuation.

    With `signs`, ``-`` is a value, because the column also has ``+``.
    """
    blank = not any(sign.isalnum() for sign in value) and not (signs and set(value) <= {"+", "-"})
    return "" if blank or value in MISSING else value


def parse_number(text: str) -> float:
    """Read a number with a decimal point or a decimal comma.

    A `ValueError` tells that it is no number, or that the comma may separate thousands, as in 1,234.
    """
    if re.fullmatch(r"[-+]?\d+,\d+", text) and not re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", text):
        text = text.replace(",", ".")
    if "_" in text:
        raise ValueError(f"not a number: {text}")
    return float(text)


def alike(values: Iterable[str]) -> list[list[str]]:
    """Return groups of values that differ only in case, blanks or number format, such as 7 and 7.0."""
    groups: dict[str, list[str]] = {}
    for value in sorted(set(values) - {""}):
        groups.setdefault(_folded(value), []).append(value)
    return [group for group in groups.values() if len(group) > 1]


def check_alike(classes: Iterable[str], where: object) -> None:
    """Refuse class names that differ only in case, blanks or number format."""
    if same := alike(classes):
        listed = "; ".join(" and ".join(map(repr, group)) for group in same[:SHOWN])
        raise ConfigError(
            f"classes differ only in case, blanks or number format: {listed}",
            where=where,
            remedy="write each class in only one way",
        )


def check_classes(classes: Iterable[str], where: object) -> None:
    """Refuse class names of a table that are alike or may mean a missing value."""
    names = set(classes)
    check_alike(names, where)
    check_known(names, "class", where)


def check_known(values: Iterable[str], what: str, where: object) -> None:
    """Refuse values that may mean a missing value, such as unknown."""
    words = {_folded(word) for word in (*MISSING, *DOUBTFUL)}
    if doubtful := sorted(name for name in values if name and _folded(name).strip("[]()") in words):
        raise ConfigError(
            f"the {what} {doubtful[0]!r} may be a missing value",
            where=where,
            remedy=f"leave the field empty, or rename the {what}; these count as missing: {missing_words()}",
        )


def missing_words() -> str:
    """Return the values that count as missing, for a message."""
    return f"an empty field, {', '.join(MISSING_WORDS)}, TCGA's words, and signs such as - and ?"


def _decode(data: bytes, where: object) -> tuple[str, list[str]]:
    if data.startswith(b"PK\x03\x04"):
        raise ConfigError("an Excel workbook or an archive, not CSV", where=where, remedy=REMEDY)
    check_substitute(data[:HEAD_BYTES], where, kind=ConfigError)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        with parsing(where, remedy=REMEDY, kind=ConfigError, what="cannot be read as CSV"):
            return data.decode("utf-16"), []
    try:
        text, notes = data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        place = data.count(b"\n", 0, error.start) + 1
        with parsing(where, remedy=REMEDY, kind=ConfigError, what="cannot be read as CSV"):
            text = data.decode("cp1252")
        notes = [f"Not UTF-8 (line {place}): read as Windows-1252 (latin-1)."]
    if re.search(r"[\x00-\x08\x0e-\x1f]", text):
        raise ConfigError("cannot be read as CSV (contains binary data)", where=where, remedy=REMEDY)
    return text, notes


def _split(text: str) -> list[list[str]]:
    """Fields of all lines that are not empty, split by the delimiter that gives the header most columns."""
    first, _, rest = text.partition("\n")
    if declared := re.fullmatch(r"sep=(.)\s*", first):  # a line that Excel writes
        return _lines(rest, declared[1])
    header = next((line for line in text.splitlines() if line.strip()), "")
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in DELIMITERS}
    fits = {mark: _fits(text, mark) for mark in DELIMITERS}
    return _lines(text, max(counts, key=lambda mark: (counts[mark] > 1 and fits[mark], counts[mark])))


def _fits(text: str, delimiter: str) -> bool:
    """Whether the first rows have as many fields as the header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = [fields for fields in islice(reader, SAMPLE) if any(map(_stripped, fields))]
    return len({len(fields) for fields in rows}) == 1


def _lines(text: str, delimiter: str) -> list[list[str]]:
    # Strict: otherwise a quote that is never closed would join all following rows into one field.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [fields for fields in reader if any(map(_stripped, fields))]
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}; check the double quotes") from error


def _columns(header: Sequence[str], body: Sequence[Sequence[str]], where: object) -> list[str]:
    names = [_stripped(name) for name in header]
    while names and not names[-1] and not any(_stripped(f) for row in body for f in row[len(names) - 1 :]):
        names.pop()  # every line ends with a delimiter
    names = [name or f"(column {number})" for number, name in enumerate(names, start=1)]
    twice = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if twice:
        raise ConfigError(f"has two columns {twice[0]}", where=where, remedy="rename or remove one of them")
    return names


def _stripped(text: str) -> str:
    return text.strip().strip("\ufeff\u200b").strip()


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _folded(value: str) -> str:
    text = "".join(unicodedata.normalize("NFKC", value).casefold().split())
    return text if not NUMBER.fullmatch(text) else f"{float(text):.12g}" if len(text) < 16 else text
