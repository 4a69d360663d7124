"""PostgreSQL as transport: connections, statements, transactions, migrations; no one's tables."""

from service.database.classes import StatementClass
from service.database.database import Database
from service.database.models import PoolStatus, Row
from service.database.queries import Queries, load_queries
from service.database.transaction import Transaction

__all__ = [
    "Database",
    "PoolStatus",
    "Queries",
    "Row",
    "StatementClass",
    "Transaction",
    "load_queries",
]
