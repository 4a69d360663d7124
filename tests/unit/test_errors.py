"""The exception tree keeps its promises: a sentence for people, a code for machines."""

import inspect
import re

import pytest

from service import errors
from service.errors import DependencyError, FieldError, InvalidInput, TollgateError

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, TollgateError)
]


#: The others are faults of this program: the caller is told no more than that.
EXPECTED = [cls for cls in CLASSES if cls.code != TollgateError.code]


@pytest.mark.parametrize("cls", EXPECTED)
def test_default_message_is_the_sentence_of_the_class(cls: type[TollgateError]) -> None:
    error = cls()
    assert error.message == (cls.__doc__ or "").splitlines()[0]
    assert error.message.endswith(".")
    assert str(error) == error.message


@pytest.mark.parametrize("cls", EXPECTED)
def test_code_is_fit_for_a_url_and_belongs_to_one_class(cls: type[TollgateError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.code)
    assert [other for other in EXPECTED if other.code == cls.code] == [cls]


@pytest.mark.parametrize("cls", [c for c in CLASSES if issubclass(c, DependencyError)])
def test_failure_of_a_dependency_names_it(cls: type[DependencyError]) -> None:
    error = cls("gone", retry_after_s=1.5)
    assert (error.message, error.retry_after_s) == ("gone", 1.5)
    if cls is not DependencyError:
        assert cls.dependency in {"redis", "postgres", "payment", "runner", "catalog"}


def test_invalid_input_lists_its_faults() -> None:
    fault = FieldError("/input_data/text", "must not be empty")
    assert InvalidInput((fault,)).errors == (fault,)
    assert InvalidInput().errors == ()
