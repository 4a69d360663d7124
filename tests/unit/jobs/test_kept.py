"""Final answers kept: bounded in number and bytes, the least recently asked for goes first."""

from __future__ import annotations

from uuid import UUID, uuid4

from service.jobs.kept import OVERHEAD_BYTES, KeptAnswers, Shown

FLOW = uuid4()


def fill(kept: KeptAnswers, number: int, size: int = 10) -> list[UUID]:
    job_ids = [uuid4() for _ in range(number)]
    for job_id in job_ids:
        kept.put(job_id, Shown(FLOW, b"x" * size, '"tag"'))
    return job_ids


def test_least_recently_asked_for_goes_first() -> None:
    kept = KeptAnswers(most=3)
    first, second, third = fill(kept, 3)
    assert kept.get(first) is not None
    [fourth] = fill(kept, 1)
    assert [kept.get(job) is not None for job in (first, second, third, fourth)] == [
        True,
        False,
        True,
        True,
    ]


def test_bytes_are_bounded_and_counted_exactly() -> None:
    kept = KeptAnswers(most_bytes=10_000)
    fill(kept, 100, size=1_000)
    assert kept.bytes == len(kept) * (1_000 + OVERHEAD_BYTES)
    assert 10_000 - (1_000 + OVERHEAD_BYTES) < kept.bytes <= 10_000


def test_what_alone_is_too_large_is_not_kept() -> None:
    kept = KeptAnswers(most_bytes=10_000)
    [small] = fill(kept, 1)
    [large] = fill(kept, 1, size=20_000)
    assert kept.get(large) is None
    assert kept.get(small) is not None
    assert len(kept) == 1


def test_an_answer_put_twice_counts_once() -> None:
    kept = KeptAnswers()
    [job] = fill(kept, 1)
    kept.put(job, Shown(FLOW, b"other", '"tag"'))
    assert (len(kept), kept.bytes) == (1, 5 + OVERHEAD_BYTES)


def test_dropped_answers_give_their_bytes_back() -> None:
    kept = KeptAnswers()
    first, _ = fill(kept, 2)
    kept.drop(first)
    kept.drop(first)
    assert kept.get(first) is None
    assert kept.bytes == 10 + OVERHEAD_BYTES


def test_doubted_answers_are_given_only_to_who_takes_them() -> None:
    kept = KeptAnswers()
    first, second = fill(kept, 2)
    kept.doubt()
    assert kept.get(first) is None
    assert kept.get(first, doubted=True) is not None
    kept.put(first, Shown(FLOW, b"read anew", '"tag"'))
    assert kept.get(first) is not None
    assert kept.get(second) is None
    kept.drop(second)
    assert kept.get(second, doubted=True) is None
