"""Messages count in words that fit the number."""

import pytest

from dirl.core.progress import counted


@pytest.mark.parametrize(
    ("number", "plural", "words"),
    [(0, "", "0 class" + "s"), (1, "", "1 class"), (2, "classes", "2 classes"), (1, "classes", "1 class")],
)
def test_one_is_singular(number: int, plural: str, words: str) -> None:
    assert counted(number, "class", plural) == words
