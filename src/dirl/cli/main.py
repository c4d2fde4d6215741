"""The `dirl` program: registers the commands, and turns every error into one line and an exit code."""

import io
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import dirl
from dirl.cli.ending import ending
from dirl.core.errors import DirlError, DirlWarning, Interrupted, from_system
from dirl.core.signals import leave_at_once, number_of, stay_silent, stopping

# In the order of `dirl --help`: its line there, and the page that its own help ends with.
COMMANDS = {
    "demo": ("Run the whole story on one slide, in minutes on a CPU.", "README.md"),
    "doctor": ("Show what is installed and what is missing.", "README.md"),
    "encoders": ("List the encoders that have a name.", "docs/howto/your-encoder.md"),
    "init": ("Begin with a folder of slides.", "docs/howto/shell.md"),
    "cohort": ("Check a cohort's table before work begins.", "docs/howto/cohort.md"),
    "tile": ("Cut slides into a store of tiles.", "docs/howto/tile.md"),
    "cells": ("Find the nuclei of a store, or read your own.", "docs/howto/cells.md"),
    "cells-report": ("Show nuclei and their statistics on one page.", "docs/howto/cells-own.md"),
    "cells-score": ("Score nuclei against annotated ones.", "docs/howto/cells-score.md"),
    "cells-export": ("Write nuclei as QuPath objects.", "docs/howto/cells-own.md"),
    "pretrain": ("Pretrain an encoder.", "docs/howto/pretrain.md"),
    "study": ("Train, audit and score a matrix of runs.", "docs/howto/study.md"),
    "embed": ("Write features of tiles.", "docs/howto/probe.md"),
    "probe": ("Score features of tiles.", "docs/howto/probe.md"),
    "tokens": ("Score patch tokens on nuclei or your masks.", "docs/howto/tokens.md"),
    "readouts": ("Compare vectors of the same tokens.", "docs/howto/readouts.md"),
    "finetune": ("Train an encoder end to end, and score it.", "docs/howto/finetune.md"),
    "mil": ("Classify slides, or learn survival.", "docs/howto/mil.md"),
    "robust": ("Measure what corruptions change.", "docs/howto/robust.md"),
    "compare": ("Put results into one table.", "docs/howto/compare.md"),
    "audit": ("Measure where encoders attend.", "docs/howto/audit.md"),
    "map": ("Map the attention over a whole slide.", "docs/howto/map.md"),
    "export": ("Write an encoder for timm, transformers or ONNX.", "docs/howto/export.md"),
    "view": ("Show slides, nuclei and attention in a browser.", "docs/howto/view.md"),
    "open": ("Open the report of an output.", "docs/howto/shell.md"),
    "check": ("Compare an output with its checksums.", "docs/howto/check.md"),
}
FUNCTIONS = {"map": "map_slide"}  # where a function has another name than its command
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Commands(TyperGroup):
    """Lists all commands, and imports the module of a command only to run it or to show its help."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(name), rest


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [brackets] in a help text for markup
    context_settings=HELP,
    epilog="Every command takes --debug, which shows the traceback of an error.",
)


def load(name: str) -> Any:
    """Import a command and make it ready to be called with arguments."""
    module = import_module(f"dirl.cli.{name.replace('-', '_')}")
    one = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=HELP
    )
    function = getattr(module, FUNCTIONS.get(name, name.replace("-", "_")))
    one.command(name, epilog=f"How-to: {COMMANDS[name][1]}")(guarded(ending(name, function)))
    command = typer.main.get_command(one)
    for parameter in command.params:
        if parameter.param_type_name == "argument":  # without the type, such as <list[Path]>
            parameter.__dict__["display_type_rich"] = lambda **_: ""
    return command


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"dirl {dirl.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Pretrain vision transformers on H&E tissue with a cell prior, and measure where they attend."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command leave with one line and 1 (failed), 2 (asked wrongly) or 130 and 143 (interrupted)."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            with stopping():
                command(*args, **options)
        except typer.Exit:
            raise
        except KeyboardInterrupt as stop:
            stay_silent()
            sys.exit(_report(*_explain(Interrupted(number_of(stop)))))
        except Exception as error:
            if "--debug" in sys.argv:
                traceback.print_exc()
            sys.exit(_report(*_explain(error)))

    return run


for _name, (_line, _) in COMMANDS.items():
    app.command(_name, help=_line)(lambda: None)


def main() -> None:
    """Run the program."""
    warnings.showwarning = _show_warning
    logger = logging.getLogger("dirl")
    logger.setLevel(logging.INFO)
    logger.handlers = [Lines()]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path need not be UTF-8
    app([argument for argument in sys.argv[1:] if argument != "--debug"])


class Lines(logging.Handler):
    """Prints each message of dirl's logger as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        typer.echo(record.getMessage(), err=True)


def _explain(error: Exception) -> tuple[str, int]:
    """Return the line to print for an error, and the exit code."""
    if isinstance(error, DirlError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        failed = from_system(error)
        return str(failed), failed.exit_code
    text = " ".join(str(error).split()) or "no message"
    return f"unexpected {type(error).__name__}: {text} — run again with --debug and report it", 1


def _report(message: str, code: int) -> int:
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """Print a `DirlWarning` as one line. Warnings of libraries are for developers and are not shown."""
    if issubclass(category, DirlWarning):
        typer.secho("warning: ", fg=typer.colors.YELLOW, nl=False, err=True)
        typer.echo(str(message), err=True)


if __name__ == "__main__":
    leave_at_once()
    main()
