"""The `dirl` program: registers the commands, and turns every error into one line and an exit code."""

import io
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

import dirl
from dirl.cli.audit import audit
from dirl.cli.cells import cells
from dirl.cli.cells_export import cells_export
from dirl.cli.cells_report import cells_report
from dirl.cli.cells_score import cells_score
from dirl.cli.check import check
from dirl.cli.compare import compare
from dirl.cli.demo import demo
from dirl.cli.doctor import doctor
from dirl.cli.embed import embed
from dirl.cli.export import export
from dirl.cli.finetune import finetune
from dirl.cli.map import map_slide
from dirl.cli.mil import mil
from dirl.cli.pretrain import pretrain
from dirl.cli.probe import probe
from dirl.cli.robust import robust
from dirl.cli.study import study
from dirl.cli.tile import tile
from dirl.cli.view import view
from dirl.core.errors import DirlError, DirlWarning, Interrupted, from_system
from dirl.core.signals import leave_at_once, number_of, stay_silent, stopping

app = typer.Typer(
    name="dirl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command takes --debug, which shows the traceback of an error.",
)


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
    """Pretrain vision transformers on H&E tissue with a cell prior, and see where attention goes."""


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


COMMANDS = (
    *(demo, doctor, check, tile, cells, cells_report, cells_score, cells_export),
    *(pretrain, study, embed, probe, finetune, mil, robust, compare, audit, export, view),
)
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(guarded(command))
app.command("map")(guarded(map_slide))


def main() -> None:
    """Run the program."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path need not be UTF-8
    app([argument for argument in sys.argv[1:] if argument != "--debug"])


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
