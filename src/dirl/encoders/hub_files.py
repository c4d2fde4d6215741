"""Files of weights and settings from the Hugging Face hub."""

from pathlib import Path

from dirl.core.errors import EncoderError
from dirl.core.hub import fetching


def from_hub(repository: str, files: tuple[str, ...], *, where: str, instead: str) -> Path:
    """Download the first of these files that a repository has, unless it is cached, and return its path.

    `where` and `instead` are for errors: the encoder, and what to pass with a file that was copied by hand.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    first, *others = files
    try:
        with fetching(where, first, repository, instead, where=where, kind=EncoderError):
            return Path(hf_hub_download(repository, first))
    except EncoderError as error:
        none = isinstance(error.__cause__, EntryNotFoundError)
        if not others or not none or isinstance(error.__cause__, LocalEntryNotFoundError):
            raise
    return from_hub(repository, tuple(others), where=where, instead=instead)
