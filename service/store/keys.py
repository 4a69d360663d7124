"""Every key in Redis: its shape, its hash tag (the part in braces) and how long it lives.

Keys of one decision share a hash tag, so that they share a node. The one exception is a request
under both a client's and a fleet-wide policy: those buckets belong to different owners.
"""

from __future__ import annotations

#: A worker counts as alive this long after its last heartbeat (ten of them).
WORKER_LIFE_MS = 10_000
#: A breaker nobody has used for a week has nothing to say any more.
BREAKER_LIFE_MS = 7 * 86_400_000
#: Longer than any load may take: the load's fence must not expire before it.
CACHE_FENCE_LIFE_MS = 60_000

#: A worker that died while it told of a large change is replaced after so long.
CACHE_CLAIM_LIFE_MS = 30_000
#: A worker that has not told of itself for so long (three times and more) is not shown any more.
REPORT_LIFE_MS = 8_000
#: Of the fleet's recent past, after the last worker has left; and of the salt of its hashes.
SAMPLES_LIFE_MS = 3_600_000
FLEET_SALT_LIFE_MS = 86_400_000

#: A mark of the health check: gone soon after the last worker.
PROBE_LIFE_MS = 10_000


def bucket(policy: str, subject: str, *, shadow: bool) -> str:
    """A bucket's theoretical arrival time; lives until the bucket is full again.

    A policy on trial counts apart, so that enforcing it begins with full buckets.
    """
    return f"rl:{{{_tag(subject)}}}:{policy}" + (":shadow" if shadow else "")


def probe(number: int) -> str:
    """What the health check writes; several, so that each node of a cluster is asked now and then.

    Lives PROBE_LIFE_MS.
    """
    return f"hc:{number}"


def workers() -> str:
    """Sorted set of live workers by last heartbeat; lives WORKER_LIFE_MS after the last one."""
    return "rl:{workers}"


def rules() -> str:
    """The limits published for the whole fleet, one hash; lives until others are published."""
    return "rl:{rules}"


def rule_changes() -> str:
    """Stream of what operators changed, the newest ones; lives for good."""
    return "rl:{rules}:changes"


def breaker(name: str) -> str:
    """A breaker's whole state, one hash; lives BREAKER_LIFE_MS after the last change."""
    return f"cb:{{{_tag(name)}}}"


def breaker_events(name: str) -> str:
    """A breaker's transitions, a capped stream; lives BREAKER_LIFE_MS after the last one."""
    return f"{breaker(name)}:events"


def cache_value(namespace: str, key: str) -> str:
    """A cached value with its ages, one hash; lives as long as its stale age (or unknown age)."""
    return f"fc:{{{_tag(namespace)}:{_tag(key)}}}"


def cache_fence(namespace: str, key: str) -> str:
    """A value's fence against old loads, a hash; lives CACHE_FENCE_LIFE_MS after the last use."""
    return f"{cache_value(namespace, key)}:fence"


def cache_position(namespace: str) -> str:
    """How far the changes of what is cached were followed; lives for good, as the values may."""
    return f"fc:{namespace}:position"


def cache_claim(namespace: str, change: str) -> str:
    """Who tells of a large change, or that it has been done; lives CACHE_CLAIM_LIFE_MS."""
    return f"fc:{namespace}:change:{change}"


def cache_channel(namespace: str) -> str:
    """Where invalidated keys of a namespace are published (no key, a channel)."""
    return f"fc:{namespace}:invalidated"


def fleet_workers() -> str:
    """Sorted set of workers that tell of themselves, by their end; lives REPORT_LIFE_MS."""
    return "fl:{fleet}:workers"


def fleet_reports() -> str:
    """What each of them told last, one hash; lives REPORT_LIFE_MS after the last report."""
    return "fl:{fleet}:reports"


def fleet_samples() -> str:
    """The fleet's recent past, a capped stream; lives SAMPLES_LIFE_MS after the last sample."""
    return "fl:{fleet}:samples"


def fleet_salt() -> str:
    """What principals are hashed with where no secret is set; lives FLEET_SALT_LIFE_MS."""
    return "fl:{fleet}:salt"


def _tag(text: str) -> str:
    """A brace would end the hash tag early and part keys that belong together."""
    return text.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
