"""Do all this replica's connections fit into the server? Told at start, before traffic tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import structlog

from service.database.classes import Statement, StatementClass
from service.database.database import Database

# Left for people and their tools: psql, backups, migrations, monitoring.
_FOR_ADMINISTRATION = 5

log = structlog.get_logger()

_CAPACITY = Statement(
    """
SELECT current_setting('max_connections')::int AS maximum,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_limit,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_limit,
       (SELECT count(*) FROM pg_stat_activity
         WHERE coalesce(backend_type, 'client backend') = 'client backend'
           AND datid IS NOT NULL
           AND NOT starts_with(application_name, current_setting('application_name'))) AS others
""",
    name="capacity",
    kind=StatementClass.READ,
)


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """The arithmetic; connections throughout."""

    workers: int
    pool_max: int
    #: ``max_connections``, or the role's or database's own limit if that is less.
    maximum: int
    #: Kept by PostgreSQL for superusers and reserved roles.
    reserved: int
    #: Open right now under another application name than ours, with or without an addition.
    others: int
    #: A pooler takes the workers' connections, and shares its own few among them.
    pooler: bool = False
    administration: int = _FOR_ADMINISTRATION
    #: Of each worker, past any pooler: the one that hears of changes.
    listening: int = 1

    @property
    def pooled(self) -> int:
        """What the pools of this replica may open: to PostgreSQL, or to the pooler before it."""
        return self.workers * self.pool_max

    @property
    def needed(self) -> int:
        """Of PostgreSQL's own connections, for this replica."""
        return self.workers * self.listening + (0 if self.pooler else self.pooled)

    @property
    def available(self) -> int:
        return self.maximum - self.reserved - self.others - self.administration

    @property
    def replicas(self) -> int:
        """How many replicas like this one fit."""
        return max(0, self.available) // self.needed

    def __str__(self) -> str:
        return f"{self._sums()}: {self._verdict()}"

    def _sums(self) -> str:
        workers, listening = self.workers, self.listening
        if self.pooler:
            wanted = (
                f"{workers} workers x {self.pool_max} connections = {self.pooled} to the pooler"
                f" (its max_client_conn), and {workers} x {listening} past it to listen ="
                f" {self.needed} for this replica"
            )
            among = " (the pooler's among them)"
        else:
            wanted = (
                f"{workers} workers x ({self.pool_max} in the pool + {listening} to listen)"
                f" connections = {self.needed} for this replica"
            )
            among = ""
        return (
            f"{wanted}; PostgreSQL takes {self.maximum}, less {self.reserved} reserved, less"
            f" {self.others} in use by others{among}, less {self.administration} for"
            f" administration = {self.available}"
        )

    def _verdict(self) -> str:
        if self.replicas:
            return f"room for {self.replicas} such replica(s)."
        if self.pooler:
            return "not enough. Lower the pooler's pool sizes or raise max_connections."
        return (
            "not enough. Lower server.workers or database.pool_max, raise PostgreSQL's"
            " max_connections, or put a connection pooler in between."
        )


async def connection_budget(
    database: Database, *, workers: int, pool_max: int, pooler: bool = False
) -> BudgetReport:
    """Compare what all workers may open with what the server takes, and warn when it cannot.

    Raises as ``Database.fetch_one`` does.
    """
    [row] = await database.fetch(_CAPACITY)
    limits = [row["maximum"], *(row[name] for name in ("role_limit", "database_limit"))]
    report = BudgetReport(
        workers=workers,
        pool_max=pool_max,
        maximum=min(limit for limit in limits if limit is not None and limit >= 0),
        reserved=row["reserved"],
        others=row["others"],
        pooler=pooler,
    )
    tell = log.info if report.replicas else log.warning
    tell("connection_budget", summary=str(report), needed=report.needed,
         available=report.available, **asdict(report))  # fmt: skip
    return report
