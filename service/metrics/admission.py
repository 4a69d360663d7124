"""What admission decided and what its trips to Redis cost; plain numbers on the way of a request.

``AdmissionCounts`` is the limiter's observer and the counter of its decisions. The names of
policies are the only labels: they come from the rulebook, never from a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.metrics.denied import DeniedPrincipals
from service.metrics.plain import HandOver, Spread, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Policy(Protocol):
        @property
        def name(self) -> str: ...
        @property
        def burst(self) -> int: ...
        @property
        def shadow(self) -> bool: ...

    class LimitState(Protocol):
        @property
        def policy(self) -> Policy: ...
        @property
        def remaining(self) -> int: ...
        @property
        def wait_ms(self) -> int: ...

    class Decision(Protocol):
        """As admission has it, which stands above this package."""

        @property
        def allowed(self) -> bool: ...
        @property
        def states(self) -> Sequence[LimitState]: ...
        @property
        def degraded(self) -> bool: ...


#: From a Redis on the same machine to the limiter's own time-out.
ROUND_TRIP_BUCKETS_S = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: A bucket with no more than one part in so many left: its client will soon be denied.
NEAR_LIMIT = 5


class AdmissionCounts:
    """Every method is synchronous and takes well under a microsecond."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._hand_over = HandOver.of(registry)
        self.denied = DeniedPrincipals()
        self._decisions = self._tally(
            "admission_decisions",
            "Requests admitted or refused, by policy. outcome: allowed; denied (each policy that"
            " had no room); local (allowed by this worker's share, Redis away); shadow (would have"
            " been denied, the policy only watches).",
            "policy",
            "outcome",
        )
        self._near_limit = self._tally(
            "admission_near_limit",
            "Admitted requests that left a bucket used up by four fifths or more, by policy.",
            "policy",
        )
        self._local_denials = self._tally(
            "admission_local_denials",
            "Requests denied from what Redis last said, without asking it again.",
        )
        self._indeterminate = self._tally(
            "admission_indeterminate",
            "Charges sent to Redis whose answer never came: spent or not, nobody knows.",
        )
        self._rules = self._tally(
            "admission_rules_reloads",
            "New versions of the policies that a worker saw. outcome: taken; refused (faulty: the"
            " old ones stayed in force).",
            "outcome",
        )
        self._round_trip = self._spread(
            "admission_round_trip_seconds",
            "Time of one round trip of the limiter to Redis, in seconds.",
            ROUND_TRIP_BUCKETS_S,
        )
        self._batch = self._spread(
            "admission_batch_size",
            "Requests decided by one round trip of the limiter to Redis.",
            BATCH_BUCKETS,
        )

    def decided(self, decision: Decision) -> None:
        """Count one request's decision under each policy that had a part in it.

        In a refusal those are the ones without room: the others charged nothing.
        """
        grown = self._decisions.grown
        for state in decision.states:
            policy = state.policy
            if state.wait_ms > 0:
                grown[policy.name, "shadow" if policy.shadow else "denied"] += 1
            elif decision.allowed:
                grown[policy.name, "local" if decision.degraded else "allowed"] += 1
                if state.remaining * NEAR_LIMIT <= policy.burst:
                    self._near_limit.grown[policy.name,] += 1

    def round_trip(self, seconds: float, size: int) -> None:
        """One trip to Redis has come back with the decisions of ``size`` requests."""
        self._round_trip.observe(seconds)
        self._batch.observe(size)

    def local_denial(self) -> None:
        """One request was denied without a trip."""
        self._local_denials.grown[()] += 1

    def indeterminate(self, n: int) -> None:
        """``n`` charges were sent, and their answer did not come."""
        self._indeterminate.grown[()] += n

    def rules_refused(self) -> None:
        """A new version of the rules was not fit to be used; the old one stays."""
        self._rules.grown["refused",] += 1

    def rules_changed(self) -> None:
        """A new version of the rules is in force."""
        self._rules.grown["taken",] += 1

    def _tally(self, name: str, text: str, *labels: str) -> Tally:
        tally = Tally(Counter(f"tollgate_{name}", text, labels, registry=self._registry))
        self._hand_over.add(tally.hand_over)
        return tally

    def _spread(self, name: str, text: str, buckets: tuple[float, ...]) -> Spread:
        spread = Spread(
            Histogram(f"tollgate_{name}", text, registry=self._registry, buckets=buckets)
        )
        self._hand_over.add(spread.hand_over)
        return spread
