"""Fetching from the Hugging Face hub: what is fetched is said, and so is what to do where it cannot be."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dirl.core.errors import UserError, first_line
from dirl.core.full_disk import refusal


@contextmanager
def fetching(
    name: str, file: str, repository: str | None, instead: str, *, where: str, kind: type[UserError]
) -> Iterator[None]:
    """Tell what is fetched, and turn whatever goes wrong meanwhile into an error that says what to do.

    Parameters
    ----------
    name
        Whose weights.
    file, repository
        What a reader without a connection has to bring from where.
    instead
        What to pass then.
    where, kind
        Place and class of the error.
    """
    print(f"{name}: fetching {file} from the Hugging Face hub, unless cached", file=sys.stderr)
    # Its client tells of every retry; what came of them is said once, below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # the hub's client raises whatever its transport does
        cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        if (full := refusal(error, cache)) is not None:
            raise full from error
        raise kind(
            f"cannot fetch {file} ({first_line(error)})",
            where=where,
            remedy=f"download {file} of huggingface.co/{repository} where there is a connection, and pass "
            f"{instead}",
        ) from error
