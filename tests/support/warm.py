"""Runs ``tollgate`` commands, each in a process of its own that finds everything imported already.

Started as a program by ``tests.support.commands``: one order a line on standard input, one exit
code a line on standard output; ends when its input does.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from service import cli

#: It decides where metrics live before anything else is imported.
NEVER_HERE = "service.cli.serve"


def main() -> None:
    for module in pkgutil.iter_modules(cli.__path__, "service.cli."):
        if module.name != NEVER_HERE:
            importlib.import_module(module.name)
    assert threading.active_count() == 1, "threads do not survive a fork"
    for line in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            os._exit(obey(json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def obey(order: dict[str, Any]) -> int:
    """In the child: become the process that was ordered."""
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for descriptor, path in enumerate((os.devnull, order["output"], order["errors"])):
        os.dup2(os.open(path, os.O_RDWR), descriptor)
    sys.argv = ["tollgate", *order["arguments"]]
    try:
        return cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    main()
