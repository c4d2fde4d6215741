"""The `dirl` program. Signals are heeded from here on: what follows takes time to import."""

from dirl.core.signals import leave_at_once


def main() -> None:
    """Run the program."""
    leave_at_once()
    from dirl.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
