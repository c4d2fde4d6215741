"""Names with a meaning in every output directory: the card, locks, and files that are being written."""

import os
import re
import secrets
import socket
from pathlib import Path

CARD = "card.json"
LOCK, OWNER, ITEM_LOCKS = ".lock", ".owner.json", ".locks"
COHORT_PARTS = ".parts"  # folder; see `dirl.core.cohort_part`
JOURNAL = ".written"  # folder; see `dirl.core.journal`
LOCK_FILES = frozenset({LOCK, OWNER, ITEM_LOCKS})
# Files in a directory that are not part of its content.
NOT_CONTENT = LOCK_FILES | {JOURNAL, COHORT_PARTS}
UNFINISHED = "unfinished"  # folder for the finished parts of an unfinished stage
# Folders in an output that are not part of the result. A tracker writes the second.
EXCLUDED = frozenset({UNFINISHED, "wandb"})

_HOST = re.sub(r"[^A-Za-z0-9-]", "", socket.gethostname())[:20] or "host"
PART_SUFFIX = r"\.[A-Za-z0-9-]+-\d+-[0-9a-f]{8}\.part"
# Names of files that are being written; see `part_of`.
PART = re.compile(r"\..+" + PART_SUFFIX)


def part_of(path: Path) -> Path:
    """Name the temporary file beside `path`: no other process, on whatever host, takes the same name."""
    name = f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part"
    return path.with_name(name)
