"""One process of the fleet test: takes from buckets as fast as it may, prints what it got.

Arguments: URL, exact|racing, seconds to run, and for each bucket its tokens, period in s and burst
with commas between. Output: the server times (µs) of its admissions from each as JSON lists.
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

#: Of each bucket.
CLIENTS = 4


async def main(url: str, variant: str, run_s: float, policies: list[Policy]) -> None:
    store = Store(RedisSettings(timeout=10.0), url=url)
    limiter = Limiter(store, workers_hint=1) if variant == "exact" else RacingLimiter(store)
    admitted: list[list[int]] = [[] for _ in policies]
    end_s = time.monotonic() + run_s

    async def client(number: int) -> None:
        charges = (Charge(policies[number], Subject("client", "hammered")),)
        while time.monotonic() < end_s:
            decision = await limiter.take(charges)
            assert not decision.degraded
            if decision.allowed:
                admitted[number].append(decision.decided_at_us)

    await asyncio.gather(*(client(n) for n in range(len(policies)) for _ in range(CLIENTS)))
    await store.close()
    print(json.dumps(admitted))


if __name__ == "__main__":
    _, url, variant, run_s, *rates = sys.argv
    hammered = [Policy(f"bucket-{rate}", *map(int, rate.split(","))) for rate in rates]
    asyncio.run(main(url, variant, float(run_s), hammered))
