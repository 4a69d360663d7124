"""PostgreSQL as transport: connections, statements, transactions, migrations; no one's tables."""

from service.database.database import Database, Transaction
from service.database.models import PoolStatus, Row
from service.database.queries import Queries, load_queries

__all__ = ["Database", "PoolStatus", "Queries", "Row", "Transaction", "load_queries"]
