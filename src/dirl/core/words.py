"""Words of messages."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Put a number before a noun: ``1 slide``, ``2 slides``; `plural` if it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
