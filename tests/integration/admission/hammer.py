"""One process of the fleet test: takes from one bucket as fast as it may, prints what it got.

Arguments: URL, exact|racing, tokens, period in s, burst, seconds to run. Output: the server times
(µs) of its admissions as a JSON list.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from service.admission.limiter import Limiter
from service.admission.models import Charge, Policy, Subject
from service.settings import RedisSettings
from service.store.client import Store
from tests.support.broken.racing_limiter import RacingLimiter


async def main(url: str, variant: str, policy: Policy, run_s: float) -> None:
    store = Store(RedisSettings(timeout=10.0), url=url)
    limiter = Limiter(store, workers_hint=1) if variant == "exact" else RacingLimiter(store)
    charges = (Charge(policy, Subject("client", "hammered")),)
    admitted: list[int] = []
    end_s = time.monotonic() + run_s

    async def client() -> None:
        while time.monotonic() < end_s:
            decision = await limiter.take(charges)
            assert not decision.degraded
            if decision.allowed:
                admitted.append(decision.decided_at_us)

    await asyncio.gather(*(client() for _ in range(4)))
    await store.close()
    print(json.dumps(admitted))


if __name__ == "__main__":
    _, url, variant, tokens, period_s, burst, run_s = sys.argv
    hammered = Policy("hammered", int(tokens), int(period_s), int(burst))
    asyncio.run(main(url, variant, hammered, float(run_s)))
