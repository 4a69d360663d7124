"""The command line: ``tollgate``, or ``python -m service``."""

from service.cli.program import main

__all__ = ["main"]
