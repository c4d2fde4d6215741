"""Check the English of pages, docstrings and help texts: usual words, and at most 25 words a sentence.

``python tests/english.py`` checks what `make lint` requires; ``--only PATH...`` checks what you name.
Code, tables, headings and the dated logs of the evidence and the experiments are left out.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 25
HOUSE_WORDS = re.compile(
    r"\b(floors?|told|stands?|stood|aside|so many|is said|what is there|whoever|posed|ours)\b", re.IGNORECASE
)
ROOT = Path(__file__).parents[1]
# Rooms of src/dirl whose docstrings pass.
PAGES = ["README.md", "CONTRIBUTING.md", "docs", "benchmarks", "studies"]
CHECKED = [*PAGES, "src"]
LOGS = {"docs/evidence.md": "## The design", "docs/experiments.md": "## 20"}  # where what is dated begins

CODE = re.compile(r"(`+).+?\1")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LITERAL = re.compile(r"^::\n\n(?:(?: .*)?\n)+", re.MULTILINE)
ITEM = re.compile(r"([-*]|\d+\.) +")

Paragraph = tuple[int, str]  # number of its first line, and its text without line breaks


def main() -> int:
    """Print every sentence to mend; return 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check the English of pages, docstrings and help texts.")
    parser.add_argument("--only", nargs="+", metavar="PATH", default=[ROOT / name for name in CHECKED])
    faults = [fault for path in parser.parse_args().only for fault in check(Path(path).resolve())]
    print("".join(f"{fault}\n" for fault in faults), end="")
    return 1 if faults else 0


def check(path: Path) -> Iterator[str]:
    """Give a line for each fault in a file, or in the pages and modules below a folder."""
    if path.is_dir():
        for below in sorted([*path.rglob("*.md"), *path.rglob("*.py")]):
            yield from check(below)
        return
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()
    text = path.read_text(encoding="utf-8")
    for line, paragraph in read_page(text, LOGS.get(name)) if path.suffix == ".md" else read_module(text):
        for sentence in sentences(paragraph):
            words = len(re.findall(r"[^ ]*\w[^ ]*", sentence))
            if words > LONGEST:
                yield f"{name}:{line}: {words} words: {sentence}"
            for word in HOUSE_WORDS.findall(CODE.sub("", sentence)):
                yield f"{name}:{line}: unusual word “{word}”: {sentence}"


def read_page(text: str, log: str | None = None) -> Iterator[Paragraph]:
    """Read the paragraphs of a page in Markdown, without code, pictures, tables, headings and its log."""
    if log is not None:
        text = text.partition(f"\n{log}")[0]
    text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    yield from paragraphs(re.sub(r"^[ \t]*[|#].*$", "", text, flags=re.MULTILINE), 1)


def read_module(text: str) -> Iterator[Paragraph]:
    """Read the docstrings of a module, and the texts that it passes as ``help`` or ``description``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring is not None:
                text = LITERAL.sub(lambda block: "\n" * block[0].count("\n"), inspect.cleandoc(docstring))
                yield from paragraphs(text, node.body[0].lineno)
        elif isinstance(node, ast.keyword) and node.arg in ("help", "description"):
            value = node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield from paragraphs(value.value, value.lineno)


def paragraphs(text: str, line: int) -> Iterator[Paragraph]:
    """Join lines into paragraphs. A blank line, a list item, a rule or another indent ends one."""
    first, indent, parts = line, 0, list[str]()
    for number, row in enumerate(text.splitlines(), line):
        words = row.strip()
        if set(words) <= set("-= ") or words.startswith(">>>"):  # blank, a rule or an example
            words = ""
        item, depth = ITEM.match(words), len(row) - len(row.lstrip())
        if not words or item or depth != indent:
            yield first, " ".join(parts)
            indent, parts = depth + (len(item[0]) if item else 0), []
        if words:
            first = first if parts else number
            parts.append(words[len(item[0]) :] if item else words)
    yield first, " ".join(parts)


def sentences(paragraph: str) -> list[str]:
    """Split a paragraph into sentences. Code counts as one word, and an abbreviation ends no sentence."""
    text = CODE.sub(lambda code: code[0].replace(" ", "\N{NO-BREAK SPACE}"), paragraph)
    text = re.sub(r"\b(et al|e\.g|i\.e|cf|vs|approx)\.", r"\1", text).replace("*", "")
    return [part for part in re.split(r"(?<=[.!?]) +|(?<=[.!?][\"”’)\]]) +", text) if part]


if __name__ == "__main__":
    sys.exit(main())
