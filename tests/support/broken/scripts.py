"""A real script with one line made wrong, taken from the real source so that it cannot go stale."""

from __future__ import annotations

from importlib import resources

import pytest

from service.store.client import Store
from service.store.scripts import Script


def spoilt(store: Store, package: str, name: str, right: str, wrong: str) -> Script:
    """``name``.lua of ``package`` with ``right``, which must occur once, replaced by ``wrong``."""
    source = resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{name}.lua has {source.count(right)} times: {right}"
    return Script(store, f"{name}-spoilt", source.replace(right, wrong), keys=None)


def spoil(
    monkeypatch: pytest.MonkeyPatch, store: Store, package: str, name: str, right: str, wrong: str
) -> None:
    """Whoever loads ``name`` from now on gets it spoilt."""
    broken, real = spoilt(store, package, name, right, wrong), Store.script
    monkeypatch.setattr(
        Store,
        "script",
        lambda self, package, asked, keys: (
            broken if asked == name else real(self, package, asked, keys=keys)
        ),
    )
