"""Downloads of weights, with a message and advice for a machine without a connection."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dirl.core.errors import UserError, first_line
from dirl.core.full_disk import refusal
from dirl.core.progress import say


@contextmanager
def fetching(
    name: str, file: str, source: str, instead: str, *, where: str, kind: type[UserError]
) -> Iterator[None]:
    """Print a download, and turn any failure of it into an error of class `kind` with advice.

    `source` is a repository of the Hugging Face hub, or the URL of `file`. Without a connection, the file can
    be copied by hand, and the argument `instead` be passed.
    """
    by_url = "://" in source
    host = urlsplit(source).hostname if by_url else "the Hugging Face hub"
    place = source if by_url else f"{file} of huggingface.co/{source}"
    say(f"{name}: fetching {file} from {host}, unless cached")
    # The client prints every retry. One error at the end is enough.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # the client passes on any exception of its transport
        cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        if (full := refusal(error, cache)) is not None:
            raise full from error
        if not by_url and _status(error) in (401, 403):
            page = f"https://huggingface.co/{source}"
            raise kind(
                f"the hub gives {file} of {source} only to accounts with access",
                where=where,
                remedy=f"request access at {page}, and run `hf auth login`; or pass {instead}",
            ) from error
        raise kind(
            f"cannot fetch {file} ({first_line(error)})",
            where=where,
            remedy=f"download {place} on a machine with a connection, and pass {instead}",
        ) from error


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an answer of the hub, if the error has one."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status
