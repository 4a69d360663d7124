"""A policy put on trial, or taken off it, for the whole fleet: one change of what is published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from service.admission.policies import rulebook_from
from service.admission.published import PublishedLimits
from service.errors import ConfigurationError
from service.settings import limits_document, limits_from

if TYPE_CHECKING:
    from pydantic import SecretStr

    from service.settings import LimitSettings


async def put_on_trial(
    published: PublishedLimits,
    own: LimitSettings,
    policy: str,
    shadow: bool,
    *,
    key_secret: SecretStr | None,
    author: str,
    reason: str,
) -> int:
    """Publish the limits that hold (or this worker's own) with this one change; their version.

    Raises ConfigurationError where there is no such policy, or it is so already; StoreUnavailable.
    """
    found = await published.read()
    held = limits_from(found.document) if found is not None and found.document else own
    changed = with_shadow(held, policy, shadow)
    rulebook_from(changed, key_secret=key_secret)  # only what every worker will take
    version = await published.publish(limits_document(changed), author=author)
    word = "on trial" if shadow else "enforced"
    await published.note("shadow", f"{policy} {word}: {reason}", author=author)
    return version


def with_shadow(limits: LimitSettings, policy: str, shadow: bool) -> LimitSettings:
    """The same limits with this policy on trial, or not. Raises ConfigurationError."""
    known = {**limits.route_classes, **limits.further}
    if policy not in known:
        raise ConfigurationError(f"there is no policy {policy}; there are: {', '.join(known)}")
    if known[policy].shadow is shadow:
        raise ConfigurationError(f"{policy} is {'on trial' if shadow else 'enforced'} already")
    document = json.loads(limits_document(limits))
    document[policy]["shadow"] = shadow
    return limits_from(json.dumps(document))
