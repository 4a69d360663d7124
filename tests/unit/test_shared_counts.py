"""The files of a replica's workers: none is counted twice, none is lost, none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from service import shared_counts
from service.shared_counts import Directory, read_all, remove_abandoned, take_over


def key(name: str, **labels: str) -> str:
    return mmap_key(name, f"{name}_total", list(labels), list(labels.values()), "help: é")


def write(directory: Path, pid: int, kind: str = "counter", /, **counts: float) -> None:
    """What a worker with this pid counted, in the library's own way."""
    values = MmapedDict(str(directory / f"{kind}_{pid}.db"))
    for name, number in counts.items():
        values.write_value(key(name, path=f"/{name}"), number, 0.0)
    values.close()


def shown(directory: Path) -> dict[str, float]:
    families = read_all(directory, MultiProcessCollector.merge)
    return {family.name: family.samples[0].value for family in families}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)), max_size=6))
def test_totals_are_those_of_all_workers_however_many_have_ended(
    tmp_path_factory: pytest.TempPathFactory, workers: list[dict[str, float]]
) -> None:
    directory = tmp_path_factory.mktemp("counts")
    for pid, counts in enumerate(workers, start=1):
        write(directory, pid, **counts)
    expected = shown(directory)
    for pid in range(1, len(workers) + 1):
        take_over(directory, pid)
        assert shown(directory) == expected
    assert len(list(directory.glob("*.db"))) <= 1


def test_gauges_of_a_worker_end_with_it(tmp_path: Path) -> None:
    for mode in ("livesum", "livemax", "all"):
        write(tmp_path, 7, f"gauge_{mode}", a=1)
        write(tmp_path, 77, f"gauge_{mode}", a=1)
    take_over(tmp_path, 7)
    assert {file.name.rpartition("_")[2] for file in tmp_path.glob("*.db")} == {"77.db"}


def test_a_worker_killed_while_it_made_its_file_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, 1, a=2)
    (tmp_path / "counter_2.db").touch()
    assert shown(tmp_path) == {"a": 2}
    take_over(tmp_path, 2)
    take_over(tmp_path, 1)
    assert shown(tmp_path) == {"a": 2}


def test_a_pid_may_be_given_again(tmp_path: Path) -> None:
    for total in (1, 2, 3):
        write(tmp_path, 5, a=1)
        assert shown(tmp_path) == {"a": total}
        take_over(tmp_path, 5)
        assert shown(tmp_path) == {"a": total}


@pytest.mark.parametrize("step", ["write", "unlink", "replace"])
def test_whoever_reads_between_two_steps_sees_every_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A whole reading before and after each step that touches the disk."""
    write(tmp_path, 1, a=3)
    write(tmp_path, 2, a=4)
    take_over(tmp_path, 1)
    seen: list[dict[str, float]] = []
    names = {"write": "write_bytes", "unlink": "unlink", "replace": "replace"}
    real = getattr(Path, names[step])

    def watched(self: Path, *args: object, **options: object) -> object:
        seen.append(shown(tmp_path))
        result = real(self, *args, **options)
        seen.append(shown(tmp_path))
        return result

    monkeypatch.setattr(Path, names[step], watched)
    take_over(tmp_path, 2)
    assert seen
    assert all(found == {"a": 7} for found in seen)


def test_whoever_is_overtaken_while_reading_reads_again(tmp_path: Path) -> None:
    write(tmp_path, 1, a=3)
    write(tmp_path, 2, a=4)
    ending = iter((1, 2))

    def merge(files: list[str]) -> dict[str, float]:
        # After the files were named, and before they are opened, a worker ends.
        for pid in ending:
            take_over(tmp_path, pid)
            break
        return {f.name: f.samples[0].value for f in MultiProcessCollector.merge(files)}

    assert read_all(tmp_path, merge) == {"a": 7}


def test_reading_while_many_end_never_falls(tmp_path: Path) -> None:
    workers = 60
    for pid in range(1, workers + 1):
        write(tmp_path, pid, a=1)
    ended = threading.Event()

    def end_all() -> None:
        for pid in range(1, workers + 1):
            take_over(tmp_path, pid)
        ended.set()

    ending = threading.Thread(target=end_all)
    ending.start()
    seen = []
    while not ended.is_set():
        seen.append(shown(tmp_path)["a"])
    ending.join()
    assert set(seen) <= {workers}
    assert shown(tmp_path) == {"a": workers}


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A master that has made its directory, with a worker, and waits."""
    code = (
        "import os, sys; from service.shared_counts import Directory\n"
        "made = Directory.make(sys.argv[1]); worker = os.fork()\n"
        "if worker: print(made.path, worker, flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_directory_is_kept_while_its_master_or_one_of_its_workers_lives(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    path, worker = holder.stdout.readline().split()
    assert remove_abandoned(str(tmp_path)) == []
    holder.kill()
    holder.wait()
    assert remove_abandoned(str(tmp_path)) == [], "a worker outlives its master for a while"
    os.kill(int(worker), 9)
    while not (removed := remove_abandoned(str(tmp_path))):
        pass
    assert removed == [Path(path)]
    assert list(tmp_path.iterdir()) == []


def test_only_own_directories_are_removed(tmp_path: Path) -> None:
    (tmp_path / "tollgate-other").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{shared_counts.PREFIX}link").symlink_to(tmp_path / "elsewhere")
    left = tmp_path / f"{shared_counts.PREFIX}left"
    left.mkdir()
    write(left, 1, a=1)
    held = Directory.make(str(tmp_path))
    assert remove_abandoned(str(tmp_path)) == [left]
    assert {path.name for path in tmp_path.iterdir()} == {
        "tollgate-other",
        "elsewhere",
        f"{shared_counts.PREFIX}link",
        held.path.name,
    }
    held.remove()
    assert not held.path.exists()
