"""The command line: ``tollgate``, or ``python -m service``."""

from service.cli.main import main

__all__ = ["main"]
