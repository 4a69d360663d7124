"""What ends a run before its time is told as what it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scripts.load import scenario
from scripts.load.asking.crew import Crew, GeneratorFailed
from scripts.load.fleet import Target
from scripts.load.plan import Outcome, Told
from scripts.load.run import Options, asked
from scripts.loopback import LOOPBACK


class Lost(Crew):
    """Generators of which one is gone as soon as it is to begin."""

    def __init__(self) -> None:
        super().__init__([])

    async def run(self, began_s: float, hear: Callable[[int, Told], None]) -> list[Outcome]:
        raise GeneratorFailed("a generator ended")


async def test_a_generator_that_is_lost_while_it_asks_is_the_reason_itself() -> None:
    options = Options(
        seconds=60, factor=1, seed=1, processes=1, by="source", most_late_ms=10, command="test"
    )

    with pytest.raises(GeneratorFailed, match="a generator ended"):
        await asked(scenario.read("browse"), Target(LOOPBACK, 1), options, Lost(), None)
