from __future__ import annotations

import pytest

from service.errors import PaymentBusy
from service.payments.bulkhead import Bulkhead


def test_one_too_many_is_refused_at_once() -> None:
    bulkhead = Bulkhead(2)
    with bulkhead.slot(), bulkhead.slot():
        with pytest.raises(PaymentBusy) as caught, bulkhead.slot():
            pytest.fail("a third slot")
        assert caught.value.retry_after_s
        assert repr(bulkhead) == "<Bulkhead 2/2>"
    assert bulkhead.in_use == 0


def test_slot_comes_back_when_its_holder_fails() -> None:
    bulkhead = Bulkhead(1)
    for _ in range(3):
        with pytest.raises(KeyError), bulkhead.slot():
            raise KeyError
    assert bulkhead.in_use == 0
