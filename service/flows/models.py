"""A flow as the rest of the service knows it: resolved once, then passed along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.errors import UnknownFlow
from service.mip.schema import InputSchema
from service.runners.models import RunnerSpec


@dataclass(frozen=True, slots=True)
class Fund:
    """An amount of one unit, as the payment service takes it."""

    amount: str
    unit: str


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to buy a flow: free, or paid as a registered agent."""

    name: str
    free: bool = False
    agent_identifier: str | None = None
    #: Empty for fixed pricing: the price is then in the registry.
    requested_funds: tuple[Fund, ...] = ()
    payment_source_type: str | None = None
    supported_payment_source_index: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A flow as buyers see it; what it holds is shared, so nobody changes it."""

    uid: UUID
    slug: str
    name: str
    description: str
    version: str
    tags: tuple[str, ...]
    author: str | None
    variants: Mapping[str, Variant]
    default_variant: str


@dataclass(frozen=True, slots=True)
class Flow(Offer):
    """Everything about a flow: also what it takes, and how it is executed."""

    input_schema: InputSchema
    runner: RunnerSpec
    demo_input: dict[str, Any]
    demo_output: str

    def variant(self, name: str | None) -> Variant:
        """The named variant, or the default one; raises UnknownFlow."""
        try:
            return self.variants[self.default_variant if name is None else name]
        except KeyError:
            raise UnknownFlow(f"The flow {self.slug} has no such variant.") from None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The slugs of what an import did."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
