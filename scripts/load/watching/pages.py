"""What the replicas' metrics pages tell of a run: a page each, read as one fleet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_LINE: Final = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
#: Others are not looked at: a page has hundreds of lines.
_ASKED: Final = (
    "tollgate_admission_local_denials_total",
    "tollgate_breaker_state{",
    "tollgate_database_pool_used_connections{",
    "tollgate_capacity_limit{",
    "tollgate_database_statements_total{",
    "tollgate_degraded{",
    "tollgate_overload_",
    "tollgate_workers ",
    "tollgate_start_time_seconds",
    "aiohttp_requests_in_progress{",
)
_BREAKER: Final = ("closed", "half-open", "open")
#: A request for the page itself is in progress while the page is made.
_OWN: Final = frozenset({"/metrics"})


@dataclass(frozen=True, slots=True)
class Page:
    """One replica at one moment; counters from its own beginning."""

    #: Totals that only grow while the replica's master lives.
    queries: int = 0
    denied_locally: int = 0
    shed: int = 0
    in_flight: int = 0
    pool_in_use: int = 0
    pool_size: int = 0
    workers: int = 0
    breaker: int = 0
    #: Replicas that do not answer.
    silent: int = 0
    degraded: frozenset[str] = field(default_factory=frozenset)

    @property
    def breaker_word(self) -> str:
        return _BREAKER[self.breaker]


def read_page(text: str) -> Page:
    figures = list(_lines(text))

    def total(name: str, **labels: str) -> int:
        wanted = labels.items()
        return round(
            sum(value for one, has, value in figures if one == name and wanted <= has.items())
        )

    degraded = (
        has["mode"] for name, has, value in figures if name == "tollgate_degraded" and value
    )
    in_flight = (
        value
        for name, has, value in figures
        if name == "aiohttp_requests_in_progress" and has.get("path_template") not in _OWN
    )
    return Page(
        queries=total("tollgate_database_statements_total"),
        denied_locally=total("tollgate_admission_local_denials_total"),
        shed=total("tollgate_overload_shed_total"),
        in_flight=round(sum(in_flight)),
        pool_in_use=total("tollgate_database_pool_used_connections"),
        pool_size=total("tollgate_capacity_limit", resource="database_connections"),
        workers=total("tollgate_workers"),
        breaker=total("tollgate_breaker_state", breaker="payment"),
        degraded=frozenset(degraded),
    )


def _lines(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for line in text.splitlines():
        if line.startswith(_ASKED) and (found := _LINE.match(line)):
            name, labels, value = found.groups()
            yield name, dict(_LABEL.findall(labels or "")), float(value)


class Fleet:
    """The pages of all replicas added up, since the first of each."""

    def __init__(self) -> None:
        self._last: dict[str, Page] = {}
        self._grown = {"queries": 0, "denied_locally": 0, "shed": 0}

    def take(self, replica: str, page: Page) -> None:
        """A counter that fell began anew, with its replica."""
        before = self._last.get(replica)
        self._last[replica] = page
        if before is None:
            return
        for name in self._grown:
            then, now = getattr(before, name), getattr(page, name)
            self._grown[name] += now - then if now >= then else now

    def lose(self, replica: str) -> None:
        """It does not answer: nothing is known of what it has in hand."""
        if before := self._last.get(replica):
            kept = {name: getattr(before, name) for name in self._grown}
            self._last[replica] = Page(
                **kept, breaker=before.breaker, degraded=before.degraded, silent=1
            )

    @property
    def now(self) -> Page:
        """Counters since the first pages, gauges of the last ones, the worst breaker."""
        pages = self._last.values()
        return Page(
            **self._grown,
            in_flight=sum(page.in_flight for page in pages),
            pool_in_use=sum(page.pool_in_use for page in pages),
            pool_size=sum(page.pool_size for page in pages),
            workers=sum(page.workers for page in pages),
            silent=sum(page.silent for page in pages),
            breaker=max((page.breaker for page in pages), default=0),
            degraded=frozenset[str]().union(*(page.degraded for page in pages)),
        )
