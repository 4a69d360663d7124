"""Which of our errors a PostgreSQL error becomes."""

from __future__ import annotations

import psycopg2
import pytest
from psycopg2 import errors

from service.database.translation import own_error
from service.errors import (
    ConstraintViolated,
    DatabaseBusy,
    DatabaseReadOnly,
    DatabaseUnavailable,
    QueryTimeout,
    StatementFailed,
    TollgateError,
)


def postgres_error(code: str) -> psycopg2.Error:
    error = errors.lookup(code)("told by PostgreSQL")
    # Otherwise only the driver can set it.
    error.__setstate__({"pgcode": code})  # type: ignore[no-untyped-call]
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("57014", QueryTimeout),  # query_canceled
        ("55P03", QueryTimeout),  # lock_not_available
        ("25006", DatabaseReadOnly),  # read_only_sql_transaction
        ("40001", DatabaseBusy),  # serialization_failure
        ("40P01", DatabaseBusy),  # deadlock_detected
        ("53300", DatabaseUnavailable),  # too_many_connections
        ("53100", DatabaseUnavailable),  # disk_full
        ("57P01", DatabaseUnavailable),  # admin_shutdown
        ("57P03", DatabaseUnavailable),  # cannot_connect_now
        ("08006", DatabaseUnavailable),  # connection_failure
        ("23505", ConstraintViolated),  # unique_violation
        ("42601", StatementFailed),  # syntax_error
        ("22P02", StatementFailed),  # invalid_text_representation
    ],
)
def test_each_kind_becomes_its_own(code: str, kind: type[TollgateError]) -> None:
    assert type(own_error(postgres_error(code), connection_lost=False)) is kind


def test_an_error_without_a_code_is_the_connections_if_that_is_gone() -> None:
    error = psycopg2.OperationalError("server closed the connection unexpectedly")
    assert type(own_error(error, connection_lost=True)) is DatabaseUnavailable
    assert type(own_error(error, connection_lost=False)) is StatementFailed
