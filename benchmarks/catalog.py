"""All cases, in the order of the report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from benchmarks import work
from benchmarks.case import Call, Case, Goal

US: Final = 1e-6
MS: Final = 1e-3
KB: Final = 1024
CORES: Final = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PEER_LIMIT: Final = 60.0


def cascade(module: str, function: str, *, terminal: bool = False, **arguments: Any) -> Call:
    return Call(f"benchmarks.cases.{module}", function, arguments, terminal=terminal)


def floor(module: str, function: str, **arguments: Any) -> Call:
    return Call(f"benchmarks.floors.{module}", function, arguments)


def peers(function: str, **arguments_of: Mapping[str, Any]) -> dict[str, Call]:
    """How peers do a case: the arguments of each by its name, with a note where its size is another than Cascade's."""
    return {
        name: Call(
            f"benchmarks.peers.{name}.contestant",
            function,
            {key: value for key, value in arguments.items() if key != "note"},
            limit=PEER_LIMIT,
            note=arguments.get("note", ""),
        )
        for name, arguments in arguments_of.items()
    }


def _size(size: int, *, cut: bool = False) -> dict[str, Any]:
    return {"size": size, "note": f"at {size:,}"} if cut else {"size": size}


# How many units each peer gets: as many as Cascade where it manages them in the time, fewer where it does not.
CHAIN_PEERS: Final = {
    1_000: peers(
        "chain",
        dask=_size(1_000),
        hamilton=_size(300, cut=True),
        parsl=_size(1_000),
        pipefunc=_size(100, cut=True),
        prefect=_size(100, cut=True),
        redun=_size(100, cut=True),
    ),
    10_000: peers("chain", dask=_size(10_000), hamilton=_size(10_000), parsl=_size(10_000), redun=_size(10_000)),
    100_000: peers("chain", parsl=_size(100_000)),
}
ASYNC_CHAIN_PEERS: Final = {1_000: peers("chain_async", hamilton=_size(300, cut=True))}
FAN_OUT_PEERS: Final = {
    10_000: peers(
        "fan_out",
        dask=_size(10_000),
        hamilton=_size(1_000, cut=True),
        parsl=_size(10_000),
        pipefunc=_size(10_000),
        prefect=_size(300, cut=True),
        pydantic_graph=_size(10_000),
        redun=_size(500, cut=True),
    ),
    100_000: peers("fan_out", parsl=_size(100_000), pipefunc=_size(100_000)),
}
MAP_PEERS: Final = {
    10_000: peers(
        "map_items",
        dask=_size(10_000),
        hamilton=_size(1_000, cut=True),
        parsl=_size(10_000),
        pipefunc=_size(10_000),
        prefect=_size(300, cut=True),
        pydantic_graph=_size(10_000),
        redun=_size(500, cut=True),
    ),
    1_000_000: peers("map_items", dask=_size(1_000_000), pipefunc=_size(1_000_000)),
}
LAYERS_PEERS: Final = peers(
    "layers",
    dask={"width": 100, "depth": 100},
    hamilton={"width": 20, "depth": 20, "note": "at 20 x 20"},
    parsl={"width": 100, "depth": 100},
    pipefunc={"width": 10, "depth": 10, "note": "at 10 x 10"},
    prefect={"width": 10, "depth": 10, "note": "at 10 x 10"},
    redun={"width": 10, "depth": 5, "note": "at 10 x 5"},
)
LOOP_PEERS: Final = {
    (100_000, "sync"): peers(
        "loop",
        langgraph={"turns": 5_000, "note": "at 5,000"},
        redun={"turns": 300, "note": "at 300"},
    ),
    (100_000, "async"): peers(
        "loop_async",
        langgraph={"turns": 5_000, "note": "at 5,000"},
        pydantic_graph={"turns": 20_000, "note": "at 20,000"},
    ),
}
_SLEEPS: Final = {"count": 64, "seconds": 0.1}
SLEEP_PEERS: Final = peers(
    "sleeps", dask=_SLEEPS, hamilton=_SLEEPS, parsl=_SLEEPS, pipefunc=_SLEEPS, prefect=_SLEEPS, redun=_SLEEPS
)
TWO_CHAINS_PEERS: Final = peers("two_chains", dask={}, hamilton={}, parsl={}, pipefunc={}, prefect={}, redun={})
PROCESS_PEERS: Final = peers("processes", dask={"count": 8}, pipefunc={"count": 8}, redun={"count": 8})
ONE_PEERS: Final = peers(
    "one_task",
    dask={},
    hamilton={"note": "driver kept"},
    parsl={},
    pipefunc={"note": "pipeline kept"},
    prefect={},
    redun={},
)
DURABLE_CHAIN_PEERS: Final = peers(
    "durable_chain", dbos=_size(300), prefect=_size(100, cut=True), redun=_size(100, cut=True)
)
DURABLE_FAN_OUT_PEERS: Final = peers(
    "durable_fan_out", dbos=_size(1_000, cut=True), prefect=_size(300, cut=True), redun=_size(500, cut=True)
)
DURABLE_LOOP_PEERS: Final = peers(
    "durable_loop",
    dbos={"turns": 300},
    prefect={"turns": 100, "note": "at 100"},
    redun={"turns": 100, "note": "at 100"},
)
RESUME_PEERS: Final = peers(
    "resumed", dbos=_size(1_000, cut=True), prefect=_size(300, cut=True), redun=_size(500, cut=True)
)


def _chains() -> list[Case]:
    return [
        Case(
            name=f"chain-{size}",
            what=f"chain of {size:,} sync tasks",
            per="task",
            cascade=cascade("graphs", "chain", size=size),
            references={"plain loop": floor("plain", "chain", size=size)},
            peers=CHAIN_PEERS.get(size, {}),
            goals=(Goal(5 * US),),
            quick=size == 10_000,
        )
        for size in (1_000, 10_000, 100_000)
    ] + [
        Case(
            name=f"chain-async-{size}",
            what=f"chain of {size:,} async tasks",
            per="task",
            cascade=cascade("graphs", "chain_async", size=size),
            references={"plain loop of awaits": floor("plain", "chain_async", size=size)},
            peers=ASYNC_CHAIN_PEERS.get(size, {}),
            goals=(Goal(6 * US),),
            quick=size == 10_000,
        )
        for size in (1_000, 10_000, 100_000)
    ]


def _fan_outs() -> list[Case]:
    return [
        Case(
            name=f"fan-out-{size}",
            what=f"{size:,} independent sync tasks into one sum",
            per="task",
            cascade=cascade("graphs", "fan_out", size=size),
            references={
                "plain loop": floor("plain", "fan_out", size=size),
                "bare thread pool": floor("pools", "fan_out", size=size),
            },
            peers=FAN_OUT_PEERS.get(size, {}),
            goals=(Goal(5 * US),),
            rounds=3 if size > 100_000 else 5,
            quick=size == 10_000,
        )
        for size in (10_000, 100_000, 1_000_000)
    ]


def _maps() -> list[Case]:
    return [
        Case(
            name=f"map-{size}",
            what=f".map over {size:,} items",
            per="item",
            cascade=cascade("maps", "items", size=size),
            references={"list comprehension": floor("plain", "comprehension", size=size)},
            peers=MAP_PEERS.get(size, {}),
            goals=(Goal(2.5 * US),),
            rounds=3 if size > 100_000 else 5,
            quick=size == 10_000,
        )
        for size in (10_000, 1_000_000)
    ] + [
        Case(
            name=f"map-memory-{size}",
            what=f".map over {size:,} items: memory beside input and output",
            per="item",
            cascade=cascade("maps", "item_bytes", size=size),
            goals=(Goal(250),),
            unit="bytes",
            rounds=1,
        )
        for size in (10_000, 1_000_000)
    ]


def _loops() -> list[Case]:
    return [*_loop("loop", "sync", ""), *_loop("loop-async", "async", "_async")]


def _loop(name: str, kind: str, suffix: str) -> list[Case]:
    return [
        Case(
            name=f"{name}-{turns}",
            what=f"tail-call loop of {turns:,} turns, {kind}",
            per="turn",
            cascade=cascade("loops", f"loop{suffix}", turns=turns),
            references={"bare trampoline": floor("trampolines", f"loop{suffix}", turns=turns)},
            peers=LOOP_PEERS.get((turns, kind), {}),
            goals=(Goal(2 * US),),
            rounds=3 if turns > 100_000 else 5,
            quick=turns == 100_000,
        )
        for turns in (100_000, 1_000_000)
    ] + [
        Case(
            name=f"{name}-memory",
            what=f"the process's growth from turn 100,000 to turn 1,000,000, {kind}",
            per="loop",
            cascade=cascade("loops", f"growth{suffix}", turns=1_000_000),
            goals=(Goal(1024 * KB),),
            unit="bytes",
            rounds=1,
        )
    ]


def _waits() -> list[Case]:
    return [
        Case(
            name="sleeps",
            what="64 tasks that sleep 0.1 s, 64 threads",
            per="run",
            cascade=cascade("waiting", "sleeps", count=64, seconds=0.1),
            references={"bare thread pool": floor("pools", "sleeps", count=64, seconds=0.1)},
            ideal=0.1,
            peers=SLEEP_PEERS,
            goals=(Goal(1.15, "ratio"),),
            quick=True,
        ),
        Case(
            name="two-chains",
            what="two chains of 10 sleeping tasks, slow and fast in turns",
            per="run",
            cascade=cascade("waiting", "two_chains"),
            references={"two bare threads": floor("pools", "two_chains")},
            ideal=work.critical_path(),
            peers=TWO_CHAINS_PEERS,
            goals=(Goal(1.05, "ratio"),),
            quick=True,
        ),
        Case(
            name="processes",
            what=f"8 tasks that compute for 0.5 s, process executor, {CORES} cores, warm",
            per="run",
            cascade=cascade("waiting", "processes", count=8),
            references={"multiprocessing.Pool": floor("pools", "processes", count=8)},
            ideal=-(-8 // CORES) * work.CORE_SECONDS,
            peers=PROCESS_PEERS,
            goals=(Goal(1.1, "ratio"),),
            rounds=3,
        ),
    ]


def _shapes() -> list[Case]:
    return [
        Case(
            name="scaling",
            what="a task of a fan-out of 1,000,000 against one of 10,000",
            per="task",
            cascade=cascade("graphs", "fan_out", size=1_000_000),
            references={"Cascade at 10,000": cascade("graphs", "fan_out", size=10_000)},
            goals=(Goal(1.6, "ratio"),),
            rounds=3,
        ),
        Case(
            name="many-inputs",
            what="one task with 10,000 inputs against one with 1,000",
            per="input",
            cascade=cascade("graphs", "one_consumer", inputs=10_000),
            references={"Cascade at 1,000": cascade("graphs", "one_consumer", inputs=1_000)},
            goals=(Goal(1.6, "ratio"),),
        ),
        Case(
            name="shared-list",
            what="10,000 tasks that share a list of 100,000 items, against one of 10 items",
            per="task",
            cascade=cascade("graphs", "shared_list", tasks=10_000, items=100_000),
            references={"Cascade with 10 items": cascade("graphs", "shared_list", tasks=10_000, items=10)},
            goals=(Goal(1.6, "ratio"),),
        ),
    ]


def _memory() -> list[Case]:
    return [
        Case(
            name=f"memory-{name}",
            what=f"memory of {what} while it runs",
            per="node",
            cascade=cascade("memory", function, size=100_000),
            goals=(Goal(1.2 * KB),),
            unit="bytes",
            rounds=1,
        )
        for name, what, function in (
            ("chain", "a chain of 100,000", "chain_node"),
            ("fan-out", "a fan-out of 100,000", "fan_out_node"),
        )
    ]


def _watching() -> list[Case]:
    quiet = cascade("watching", "told", size=10_000, log_level="CRITICAL")
    return [
        Case(
            name="default-log",
            what="10,000 tasks with the default log_level, stderr not a terminal",
            per="task",
            cascade=cascade("watching", "told", size=10_000, log_level="INFO"),
            references={"Cascade, log off": quiet},
            goals=(Goal(1.3, "ratio"),),
        ),
        Case(
            name="terminal",
            what="10,000 tasks with progress on a terminal",
            per="task",
            cascade=cascade("watching", "shown", size=10_000, terminal=True),
            references={"Cascade, log off": quiet},
            goals=(Goal(1.3, "ratio"),),
        ),
        Case(
            name="terminal-100000",
            what="100,000 tasks with progress on a terminal",
            per="task",
            cascade=cascade("watching", "shown", size=100_000, terminal=True),
            references={"Cascade, log off": cascade("watching", "told", size=100_000, log_level="CRITICAL")},
            goals=(Goal(1.3, "ratio"),),
            rounds=3,
        ),
        Case(
            name="subscriber",
            what="a subscriber for every event of 10,000 tasks",
            per="event",
            cascade=cascade("watching", "event", size=10_000),
            goals=(Goal(3 * US),),
        ),
    ]


def _durable() -> list[Case]:
    commit = {
        "commit": floor("commits", "commit", count=300, row=160),
        "commit, log kept short": floor("commits", "commit", count=300, row=160, log_pages=128),
    }
    return [
        Case(
            name="durable-fan-out",
            what="10,000 independent sync tasks into one sum, durable on SQLite",
            per="task",
            cascade=cascade("durable", "fan_out", size=10_000),
            references={"Cascade, not durable": cascade("graphs", "fan_out", size=10_000)},
            peers=DURABLE_FAN_OUT_PEERS,
            goals=(Goal(25 * US),),
        ),
        Case(
            name="durable-chain",
            what="chain of 300 sync tasks, durable on SQLite, each committed before the next begins",
            per="task",
            cascade=cascade("durable", "chain", size=300),
            references=commit,
            peers=DURABLE_CHAIN_PEERS,
            goals=(Goal(1.3, "ratio"),),
            rounds=11,
            quick=True,
        ),
        Case(
            name="durable-loop",
            what="tail-call loop of 300 turns, durable on SQLite, each committed before the next begins",
            per="turn",
            cascade=cascade("durable", "loop", turns=300),
            references=commit,
            peers=DURABLE_LOOP_PEERS,
            goals=(Goal(1.3, "ratio"),),
            rounds=11,
        ),
        Case(
            name="durable-resume",
            what="resuming a run of 10,000 tasks that failed in another process, 9,999 of them journaled",
            per="task",
            cascade=cascade("durable", "resumed", size=10_000),
            peers=RESUME_PEERS,
            # One second for all of them.
            goals=(Goal(100 * US),),
        ),
        *[
            Case(
                name=f"durable-memory-{name}",
                what=f"memory of {what} while it runs, durable on SQLite",
                per="node",
                cascade=cascade("durable", function, size=size, durable=True),
                references={"Cascade, not durable": cascade("durable", function, size=size, durable=False)},
                goals=(Goal(1.2, "ratio"),),
                unit="bytes",
                rounds=1,
            )
            for name, what, function, size in (
                ("chain", "a chain of 10,000", "chain_node", 10_000),
                ("fan-out", "a fan-out of 100,000", "fan_out_node", 100_000),
            )
        ],
    ]


CASES: Final[tuple[Case, ...]] = (
    Case(
        name="one-task",
        what="one trivial task through `cs.run`, warm",
        per="run",
        cascade=cascade("graphs", "one_task"),
        references={
            "asyncio.run": floor("plain", "event_loop"),
            "call on another thread": floor("pools", "hand_over"),
            "plain call": floor("plain", "call"),
        },
        peers=ONE_PEERS,
        goals=(Goal(150 * US),),
        quick=True,
    ),
    Case(
        name="one-task-in-engine",
        what="the same on an engine that is kept",
        per="run",
        cascade=cascade("graphs", "one_task_in_engine"),
        references={"plain call": floor("plain", "call")},
    ),
    *_chains(),
    Case(
        name="chain-stack",
        what="how much deeper the stack is in a chain of 100,000 than in one of 100",
        per="chain",
        cascade=cascade("graphs", "chain_stack", size=100_000),
        goals=(Goal(0),),
        unit="frames",
        rounds=1,
    ),
    *_fan_outs(),
    Case(
        name="fan-out-async-10000",
        what="10,000 independent async tasks into one sum",
        per="task",
        cascade=cascade("graphs", "fan_out_async", size=10_000),
        references={"asyncio.gather": floor("plain", "gather", size=10_000)},
        quick=True,
    ),
    *_maps(),
    Case(
        name="layers",
        what="100 layers of 100 tasks, three inputs each",
        per="task",
        cascade=cascade("graphs", "layers", width=100, depth=100),
        references={"plain loop": floor("plain", "layers", width=100, depth=100)},
        peers=LAYERS_PEERS,
        goals=(Goal(8 * US),),
        quick=True,
    ),
    *_loops(),
    *_waits(),
    *_shapes(),
    *_memory(),
    Case(
        name="import",
        what="Python that imports Cascade, and nothing from outside the standard library",
        per="start",
        cascade=cascade("importing", "start"),
        references={"bare Python": floor("bare", "start")},
        goals=(Goal(50 * MS, "difference"),),
    ),
    *_watching(),
    *_durable(),
    Case(
        name="commit",
        what="one commit of SQLite (WAL, synchronous=FULL)",
        per="commit",
        cascade=None,
        references={"SQLite": floor("commits", "commit", count=500)},
    ),
)
