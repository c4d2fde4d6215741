"""Downloads from the Hugging Face hub, with a message and advice for a machine without a connection."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dirl.core.errors import UserError, first_line
from dirl.core.full_disk import refusal
from dirl.core.progress import say


@contextmanager
def fetching(
    name: str, file: str, repository: str | None, instead: str, *, where: str, kind: type[UserError]
) -> Iterator[None]:
    """Print a download, and turn any failure of it into an error of class `kind` with advice.

    Without a connection, `file` of the hub's `repository` can be copied by hand, and the argument `instead`
    be passed.
    """
    say(f"{name}: fetching {file} from the Hugging Face hub, unless cached")
    # The client prints every retry. One error at the end is enough.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # the client passes on any exception of its transport
        cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        if (full := refusal(error, cache)) is not None:
            raise full from error
        raise kind(
            f"cannot fetch {file} ({first_line(error)})",
            where=where,
            remedy=f"download {file} of huggingface.co/{repository} on a machine with a connection, "
            f"and pass {instead}",
        ) from error
