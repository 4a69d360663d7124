"""psycopg2's errors as our own: above this package no other kind is seen."""

from __future__ import annotations

import psycopg2
from psycopg2 import errorcodes

from service.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    QueryTimeout,
    StatementFailed,
    TollgateError,
)

# A server that is short of something, going down, coming up, or that has dropped us.
_UNAVAILABLE_CLASSES = (
    errorcodes.CLASS_CONNECTION_EXCEPTION,
    errorcodes.CLASS_INSUFFICIENT_RESOURCES,
    errorcodes.CLASS_OPERATOR_INTERVENTION,
    errorcodes.CLASS_SYSTEM_ERROR,
)


def own_error(error: psycopg2.Error, *, connection_lost: bool) -> TollgateError:
    """The error to raise ``from`` this one."""
    code = error.pgcode or ""
    if code == errorcodes.QUERY_CANCELED:
        return QueryTimeout()
    if code == errorcodes.LOCK_NOT_AVAILABLE:
        return QueryTimeout("A row was locked by somebody else for too long.")
    if code == errorcodes.READ_ONLY_SQL_TRANSACTION:
        return DatabaseReadOnly()
    if code in (errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED):
        return DatabaseBusy("Another transaction was in the way; nothing was changed.")
    if isinstance(error, psycopg2.IntegrityError):
        return ConstraintViolated(error.diag.constraint_name)
    if connection_lost or code.startswith(_UNAVAILABLE_CLASSES):
        return DatabaseUnavailable("The connection to PostgreSQL was lost.")
    return StatementFailed()
