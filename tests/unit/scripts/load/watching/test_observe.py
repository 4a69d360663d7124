"""What is read of processes, metrics pages and Redis, and what is made of it."""

from __future__ import annotations

import os
import subprocess
import sys

from scripts.load.record import Sample
from scripts.load.watching.changes import Changes
from scripts.load.watching.info import inside_scripts, read_info
from scripts.load.watching.observe import Observation, Observed, Observer
from scripts.load.watching.pages import Fleet, Page, read_page
from scripts.load.watching.parts import Parts, Process, read_ps, read_stat, sorted_out, table

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = """\
# HELP tollgate_workers Workers of this replica that live.
tollgate_workers 2.0
tollgate_workers_configured 3.0
tollgate_admission_local_denials_total 7.0
tollgate_breaker_state{breaker="payment"} 1.0
tollgate_breaker_state{breaker="other"} 2.0
tollgate_capacity_limit{resource="database_connections"} 40.0
tollgate_capacity_limit{resource="runs"} 20.0
tollgate_database_pool_used_connections{lane="requests"} 3.0
tollgate_database_pool_used_connections{lane="loops"} 1.0
tollgate_database_statements_total{outcome="ok",statement="ping"} 2.0
tollgate_database_statements_total{outcome="busy",statement="claim_runs"} 1e+01
tollgate_degraded{mode="redis_away"} 1.0
tollgate_degraded{mode="postgres_away"} 0.0
tollgate_overload_shed_total{priority="sale",reason="limit"} 4.0
tollgate_overload_shed_total{priority="read",reason="share"} 1.0
aiohttp_requests_in_progress{method="GET",path_template="/metrics",remote="-",scheme="http"} 1.0
aiohttp_requests_in_progress{method="GET",path_template="/flows",remote="-",scheme="http"} 2.0
"""
INFO = """# Stats\r
total_net_input_bytes:1000\r
total_net_output_bytes:5000\r
used_memory:4096\r
used_cpu_sys:0.250000\r
used_cpu_user:0.500000\r
cmdstat_evalsha:calls=10,usec=5,usec_per_call=0.5\r
cmdstat_time:calls=99,usec=5,usec_per_call=0.5\r
cmdstat_client|setname:calls=3,usec=1,usec_per_call=0.3\r
cmdstat_info:calls=4,usec=1,usec_per_call=0.3\r
"""


def process(pid: int, parent: int, command: str, cpu_s: float = 1.0) -> Process:
    return Process(pid, parent, "1", cpu_s, command)


class TestProcesses:
    def test_line_of_proc_is_read_past_a_name_of_any_kind(self) -> None:
        fields = ["S", "7", *"0" * 9, "250", "50", *"0" * 6, "123456", "0"]
        stat, command = f"42 (a) b (c) {' '.join(fields)}", b"python\0-m\0service\0serve\0"
        read = read_stat(stat, "", command)
        assert read == Process(42, 7, "123456", 300 * TICK_S, "python -m service serve ")

    def test_finer_count_of_the_kernel_counts_where_it_is_the_larger(self) -> None:
        stat = f"42 (a) {' '.join(['S', '7', *'0' * 9, '1', '0', *'0' * 6, '123456', '0'])}"
        assert read_stat(stat, "19000000 5 3", b"").cpu_s == 0.019
        assert read_stat(stat, "4000000 5 3", b"").cpu_s == TICK_S

    def test_line_of_ps_is_read_with_its_five_words_of_beginning(self) -> None:
        read = read_ps("  42     7   1:02.50 Mon Nov 23 20:45:49 2026 nginx: worker process")
        assert read == Process(42, 7, "Mon Nov 23 20:45:49 2026", 62.5, "nginx: worker process")
        assert read_ps("1 0 2-01:00:00 Mon Nov 23 20:45:49 2026 init").cpu_s == 49 * 3600

    def test_each_program_below_the_root_has_its_part(self) -> None:
        found = sorted_out(
            [
                process(1, 0, "python -m scripts.fleet up"),
                process(2, 1, "python -I /srv/postgres/scripts/keeper.py"),
                process(3, 2, "python -m service serve"),
                process(4, 3, "python -m service serve"),
                process(5, 1, "python -I /x/scripts/keeper.py"),
                process(6, 5, "nginx: master process /usr/sbin/nginx"),
                process(7, 6, "nginx: worker process"),
                process(8, 1, "/x/valkey-server 127.0.0.1:1"),
                process(9, 1, "/x/bin/postgres -D /x"),
                process(10, 9, "postgres: tollgate tollgate idle"),
                process(11, 1, "python -m scripts.sandbox --port 1"),
                process(12, 1, "wrk -t1"),
                process(13, 0, "postgres of somebody else"),
            ],
            root=1,
        )
        parts: dict[str, list[int]] = {}
        for part, one in found:
            parts.setdefault(part, []).append(one.pid)
        assert parts == {
            "masters": [3],
            "workers": [4],
            "nginx": [6, 7],
            "redis": [8],
            "postgres": [9, 10],
            "sandbox": [11],
        }

    def test_all_processes_are_seen_and_we_among_them(self) -> None:
        us = next(one for one in table() if one.pid == os.getpid())
        assert us.parent == os.getppid()
        assert us.cpu_s > 0

    def test_time_of_a_part_is_its_own_since_the_first_look_and_outlives_it(self) -> None:
        burn = (
            "import sys\nsys.stdin.readline()\nfor _ in range(3_000_000): pass\nprint(flush=True)\n"
        )
        command = [sys.executable, "-c", f"{burn}sys.stdin.read()", "nginx"]
        parts = Parts(os.getpid())
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            before = parts.look()["nginx"]
            child.stdin.write(b"\n")
            child.stdin.flush()
            child.stdout.readline()
            used = parts.look()["nginx"]
            child.stdin.close()
            child.wait()
        assert before == 0
        assert used >= 2 * TICK_S
        assert parts.look()["nginx"] == used


class TestPages:
    def test_page_is_read_without_the_request_for_itself(self) -> None:
        assert read_page(PAGE) == Page(
            queries=12,
            denied_locally=7,
            shed=5,
            in_flight=2,
            pool_in_use=4,
            pool_size=40,
            workers=2,
            breaker=1,
            degraded=frozenset({"redis_away"}),
        )

    def test_replicas_add_up_and_counters_begin_at_the_first_page(self) -> None:
        fleet = Fleet()
        fleet.take("a", Page(queries=100, pool_in_use=1, workers=2, breaker=0))
        fleet.take("b", Page(queries=500, pool_in_use=2, workers=2, breaker=2))
        assert fleet.now == Page(pool_in_use=3, workers=4, breaker=2)
        fleet.take("a", Page(queries=130, workers=2))
        assert fleet.now.queries == 30

    def test_counter_of_a_replica_that_began_anew_goes_on(self) -> None:
        fleet = Fleet()
        fleet.take("a", Page(shed=100))
        fleet.take("a", Page(shed=110))
        fleet.lose("a")
        fleet.take("a", Page(shed=4))
        assert fleet.now.shed == 14

    def test_replica_that_does_not_answer_has_nothing_in_hand(self) -> None:
        fleet = Fleet()
        fleet.take("a", Page(in_flight=5, workers=2, queries=10))
        fleet.lose("a")
        assert fleet.now == Page(silent=1)


class TestChanges:
    def test_what_begins_and_ends_is_told_once(self) -> None:
        changes = Changes(Page(workers=2))
        trouble = Page(workers=1, breaker=2, silent=1, shed=5, degraded=frozenset({"redis_away"}))
        told = changes.seen(trouble, 3.0)
        assert [(one.kind, one.at) for one in told] == [
            ("breaker", 3.0),
            ("degraded", 3.0),
            ("fleet", 3.0),
            ("fleet", 3.0),
            ("shed", 3.0),
        ]
        assert [one.kind for one in changes.seen(trouble, 4.0)] == ["shed"]
        assert changes.seen(trouble, 5.0) == []
        ended = [one.text for one in changes.seen(Page(workers=2, shed=5), 6.0)]
        assert ended == [
            "circuit of the payment service open → closed",
            "redis_away ended",
            "workers 1 → 2",
            "replicas that do not answer: 1 → 0",
        ]


class TestInfo:
    def test_commands_inside_of_scripts_and_our_own_question_are_left_out(self) -> None:
        told = read_info(INFO, own_bytes=600)
        assert (told.commands, told.bytes) == (13, 5400)
        assert (told.used_memory, told.cpu_s) == (4096, 0.75)

    def test_what_scripts_run_is_read_from_them(self) -> None:
        assert {"time", "hmget", "set", "get"} <= inside_scripts()
        assert "evalsha" not in inside_scripts()


def sample(**figures: int) -> Sample:
    nothing = dict.fromkeys(
        ("redis_commands", "redis_bytes", "queries", "pool_in_use", "pool_size", "in_flight"), 0
    )
    return Sample(
        at=10.0,
        cpu_s={"workers": 2.0, "nginx": 0.5},
        **{**nothing, "shed": 0, "denied_locally": 0, **figures},
        breaker="closed",
    )


class TestCosts:
    def test_costs_are_the_last_totals_by_request(self) -> None:
        last = sample(redis_commands=500, redis_bytes=90_000, queries=40, pool_size=20)
        costs = Observation([sample(), last], [], (1, 2)).costs(1_000)
        assert costs.cpu_us == {"workers": 2_000.0, "nginx": 500.0}
        assert (costs.redis_commands, costs.redis_bytes, costs.queries) == (0.5, 90.0, 0.04)

    def test_what_was_not_seen_is_absent(self) -> None:
        costs = Observation([sample()]).costs(1_000)
        assert (costs.redis_commands, costs.redis_bytes, costs.queries) == (None, None, None)
        assert Observation().costs(1_000).cpu_us == {}
        assert Observation([sample()], [], (1, 2)).costs(0).redis_commands is None

    async def test_nothing_to_look_at_is_observed_too(self) -> None:
        observer = Observer(Observed())
        await observer.start()
        seen = await observer.stop()
        assert seen.events == []
        assert seen.samples[-1].cpu_s == {}
        assert seen.costs(10).redis_commands is None
