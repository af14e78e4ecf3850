"""The commands of `cascade`: what they print, what they refuse, and with which status they end (S27, S30)."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from cascade.runtime.clock import SystemClock
from cascade.runtime.durability.host_lock import HostLock
from cascade.runtime.durability.keys import ROOT_GRAPH
from cascade.spec.records import Record, RunRow
from cascade.stores import open_store
from tests.unit.tools.command.conftest import Folder

pytestmark = pytest.mark.needs_extra("cli", "sqlite")

REFERENCE = Path(__file__).parents[4] / "docs" / "reference" / "command-line.md"
FLOW = """
    import os
    import cascade as cs

    @cs.resource
    def word():
        yield "sum"

    @cs.task
    def fetch(url: str) -> str:
        with open("ledger", "a") as ledger:
            ledger.write(f"fetch {url}\\n")
        return f"page {url}"

    @cs.task
    def measure(page: str) -> int:
        if os.path.exists("fail"):
            raise ValueError("no luck")
        return len(page)

    @cs.task
    def total(sizes: list[int], times: int, word=cs.inject("word")) -> str:
        return f"{word} {times * sum(sizes)}"

    pages = fetch.map(url=["a", "bb"])
    times = cs.Param("times", default=1)
    main = total(measure.map(page=pages), times)
    single = measure(fetch("x"))
    skipped = [single, cs.pipeline(fetch("y"), [lambda page: measure(page).run_if(cs.task(bool)(0))])]
    both = {"main": main, "single": single}
    names = cs.task(list)(cs.Param("names", type=list[str]))

    def function():
        return main

    def needy(x):
        return x

    def nothing():
        pass

    async def coroutine():
        return main

    number = 3
"""


@pytest.fixture
def flow(folder: Folder) -> Folder:
    folder.write("flow.py", FLOW)
    return folder


def row(run_id: str, **changes: Any) -> RunRow:
    whole = RunRow(run_id, "running", 1, "elsewhere", "process 1 on other", 0.0, 10.0, 12.0, "t", b"", None, None)
    return whole._replace(**changes)


def put(store_file: Path, made: RunRow, *records: Record) -> None:
    """Put a run with any names into a store."""
    store = open_store(store_file)
    try:
        claimed = store.claim(made, over=None)
        assert claimed is not None
        store.write(made.run_id, claimed.epoch, list(records), [], made.lease_until)
        if made.status != "running":
            store.finish(made.run_id, claimed.epoch, made.status, made.error, made.updated)
    finally:
        store.close()


def test_a_workflow_is_run_and_its_value_printed(flow: Folder) -> None:
    done = flow.cascade("run", "flow.py:main", "--param", "times=10")
    assert (done.exit_code, done.stdout) == (0, "sum 130\n")
    assert done.stderr.startswith("run ")
    assert (flow.path / ".cascade" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("target", ["flow.py:function", "flow:main", "./flow.py:main", "flow.py:both"])
def test_targets_are_values_containers_and_functions_in_files_and_modules(flow: Folder, target: str) -> None:
    done = flow.cascade("run", target, "--log-level", "critical")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "sum 13" in done.stdout


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("flow.py:mian", "flow.py has no 'mian'; did you mean 'main'?"),
        ("flow.py:zzz", "flow.py has no 'zzz'; there is pages, times, main, single, skipped, both, names, function"),
        ("flow.py", "name what to run, as in  flow.py:NAME; there is pages"),
        ("flwo.py:main", "there is no file flwo.py; did you mean 'flow.py'?"),
        ("nowhere:main", "there is no module 'nowhere'"),
        (":main", "expected FILE.py:NAME or module:NAME, got ':main'"),
        ("flow.py:number", "no workflow: expected a lazy value, a container of them, or a function"),
        ("flow.py:needy", "a function that needs x"),
        ("flow.py:nothing", "returned None"),
        ("flow.py:coroutine", "make it a task"),
        ("flow.py:fetch", "a task that was not called"),
        ("broken.py:main", "broken.py cannot be loaded\n"),
        ("ends.py:main", "it ends the program (SystemExit: 3)"),
        ("json.py:main", "would be the module 'json'"),
        ("flow.txt:main", "there is no module 'flow.txt'"),
    ],
)
def test_a_target_that_is_none_is_refused_with_what_there_is(flow: Folder, target: str, told: str) -> None:
    flow.write("broken.py", "import cascade as cs\nmain = cs.Param('n', default=int)\n")
    flow.write("ends.py", "import sys\nsys.exit(3)\n")
    (flow.path / "json.py").write_text("main = 1")
    for command in ("run", "plan", "graph"):
        done = flow.cascade(command, target)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert told in done.stderr
        assert "frozen importlib" not in done.stderr
        assert "cascade/tools" not in done.stderr
    assert not (flow.path / ".cascade").exists()


def test_a_file_that_fails_shows_the_lines_of_its_user_alone(flow: Folder) -> None:
    flow.write("inner.py", "def check():\n    raise KeyError('lost')\n")
    flow.write("outer.py", "import inner\ninner.check()\nmain = 1\n")
    told = flow.cascade("run", "outer.py:main").stderr
    assert "outer.py cannot be loaded\nTraceback" in told
    assert [line.split(", ")[1] for line in told.splitlines() if line.startswith("  File")] == ["line 2", "line 2"]
    assert "KeyError: 'lost'" in told


def test_all_bad_parameters_are_told_at_once_and_nothing_runs(flow: Folder) -> None:  # S19
    done = flow.cascade("run", "flow.py:main", "-p", "times=x", "-p", "tims=3")
    assert done.exit_code == 2
    assert done.stderr == (
        "error: bad input in 2 places, and nothing was run:\n"
        "  --param times: expected int, got 'x'\n"
        "  parameter 'tims': unknown, got '3'; did you mean 'times'?\n"
    )
    assert not (flow.path / "ledger").exists()
    twice = flow.cascade("run", "flow.py:main", "-p", "times=1", "-p", "times=2")
    assert (twice.exit_code, "given 2 times" in twice.stderr) == (2, True)


def test_a_parameter_that_is_a_list_is_given_several_times(flow: Folder) -> None:  # S19
    done = flow.cascade("run", "flow.py:names", "-p", "names=a=b", "-p", "names=c")
    assert json.loads(done.stdout) == ["a=b", "c"]


def test_a_failure_ends_with_1_and_says_how_to_go_on(flow: Folder) -> None:
    (flow.path / "fail").touch()
    failed = flow.cascade("run", "flow.py:single", "--run-id", "two words")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "error: ValueError: no luck\n" in failed.stderr
    assert failed.stderr.endswith("go with:  cascade resume 'two words'\n".replace("go with", "again with"))
    (flow.path / "fail").unlink()
    done = flow.cascade("resume", "two words")
    assert (done.exit_code, done.stdout) == (0, "6\n")
    assert (flow.path / "ledger").read_text() == "fetch x\n"


def test_a_run_that_has_finished_gives_its_value_again(flow: Folder) -> None:  # S27
    assert flow.cascade("run", "flow.py:main", "--run-id", "r", "-p", "times=2").stdout == "sum 26\n"
    for command in (["run", "flow.py:main", "--run-id", "r"], ["resume", "r"]):
        again = flow.cascade(*command)
        assert (again.exit_code, again.stdout) == (0, "sum 26\n")
        assert "run r has finished before" in again.stderr
    assert (flow.path / "ledger").read_text().count("fetch") == 2


def test_a_run_that_exists_goes_on_without_its_required_parameters(flow: Folder) -> None:  # S27
    unknown = flow.cascade("run", "flow.py:names", "--run-id", "r")
    assert (unknown.exit_code, "--param names: required" in unknown.stderr) == (2, True)
    flow.cascade("run", "flow.py:names", "--run-id", "r", "-p", "names=a", "-p", "names=b")
    for command in (["run", "flow.py:names", "--run-id", "r"], ["resume", "r"]):
        for given in ([], ["-p", "names=a", "-p", "names=b"]):
            again = flow.cascade(*command, *given)
            assert (again.exit_code, again.stdout and json.loads(again.stdout)) == (0, ["a", "b"]), again.stderr
        other = flow.cascade(*command, "-p", "names=b")
        assert (other.exit_code, "goes on with the parameters" in other.stderr) == (2, True)
    unknown = flow.cascade("run", "flow.py:names", "--run-id", "other")
    assert (unknown.exit_code, "--param names: required" in unknown.stderr) == (2, True)
    assert [run["run_id"] for run in json.loads(flow.cascade("runs", "--json").stdout)] == ["r"]


def test_a_run_id_belongs_to_one_workflow_and_its_parameters(flow: Folder) -> None:  # S27
    flow.cascade("run", "flow.py:main", "--run-id", "r", "-p", "times=2")
    other = flow.cascade("run", "flow.py:single", "--run-id", "r")
    assert (other.exit_code, "flow.py:main; choose another --run-id" in other.stderr) == (2, True)
    changed = flow.cascade("run", "flow.py:main", "--run-id", "r", "-p", "times=3")
    assert (changed.exit_code, "goes on with the parameters" in changed.stderr) == (2, True)


def test_resume_needs_the_id_alone_from_another_folder(flow: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    (flow.path / "fail").touch()
    store = ["--store", "kept.db"]
    failed = flow.cascade("run", "flow.py:main", "-p", "times=3", "--run-id", "r", *store)
    assert f"cascade resume --store sqlite:///{flow.path}/kept.db r" in failed.stderr
    (flow.path / "fail").unlink()
    elsewhere = flow.path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    done = flow.cascade("resume", "r", "--store", "../kept.db")
    assert (done.exit_code, done.stdout) == (0, "sum 39\n")
    assert sorted((flow.path / "ledger").read_text().split("\n")[:-1]) == ["fetch a", "fetch bb"]


def test_that_a_run_goes_on_is_told_when_it_does(flow: Folder, monkeypatch: pytest.MonkeyPatch) -> None:  # S27
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:single", "--run-id", "r")
    store = flow.path / ".cascade" / "cascade.db"
    other = HostLock(f"sqlite:///{store}", "r")
    assert other.take()
    try:
        for command in (["resume", "r"], ["run", "flow.py:single", "--run-id", "r"]):
            refused = flow.cascade(*command)
            assert (refused.exit_code, "goes on" in refused.stderr) == (2, False), refused.stderr
    finally:
        other.release()
    (flow.path / "fail").unlink()
    assert "run r goes on: flow.py:single in " in flow.cascade("resume", "r").stderr
    assert "goes on" not in flow.cascade("resume", "r").stderr


def test_the_wait_for_an_owner_elsewhere_is_told(flow: Folder) -> None:  # S27
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:single", "--run-id", "r")
    (flow.path / "fail").unlink()
    store = open_store(flow.path / ".cascade" / "cascade.db")
    found = store.find("r")
    assert found is not None
    # No wait is longer than the lease, whatever the clock of the owner's machine says.
    ahead = SystemClock().now() + 3_600
    owner = {"host": "elsewhere", "owner": "process 1 on other", "updated": ahead, "lease_until": ahead + 0.2}
    draft = found._replace(status="running", **owner)
    assert store.claim(draft, over=found.epoch) is not None
    store.close()
    done = flow.cascade("resume", "r", env={"CASCADE_LEASE_SECONDS": "0.2"})
    assert (done.exit_code, done.stdout) == (0, "6\n")
    assert 0 <= done.stderr.find("process 1 on other") < done.stderr.find("run r goes on")


def test_a_file_with_dots_in_its_name_keeps_values_of_its_own_classes(folder: Folder) -> None:  # S26
    folder.write(
        "flow.v2.py",
        """
        import os
        from dataclasses import dataclass
        import cascade as cs

        @dataclass
        class Page:
            text: str

        @cs.task
        def fetch(url: str) -> Page:
            with open("ledger", "a") as ledger:
                ledger.write(f"fetch {url}\\n")
            return Page(f"page {url}")

        @cs.task
        def measure(page: Page) -> int:
            if os.path.exists("fail"):
                raise ValueError("no luck")
            return len(page.text)

        main = measure(fetch("x"))
        """,
    )
    (folder.path / "fail").touch()
    failed = folder.cascade("run", "flow.v2.py:main", "--run-id", "r")
    assert (failed.exit_code, "could not be kept" in failed.stderr, "warning" in failed.stderr) == (1, False, False)
    (folder.path / "fail").unlink()
    assert folder.cascade("resume", "r").stdout == "6\n"
    assert (folder.path / "ledger").read_text() == "fetch x\n"
    folder.write("flow_v2.py", "")
    refused = folder.cascade("run", "flow.v2.py:main")
    assert (refused.exit_code, "would be the module 'flow_v2', which is the name of" in refused.stderr) == (2, True)


def test_resume_tells_clearly_what_is_gone(flow: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (flow.path / "fail").touch()
    store = ["--store", str(tmp_path / "kept.db")]
    flow.cascade("run", "flow.py:main", "--run-id", "r", *store)
    source = flow.path / "flow.py"
    text = source.read_text()
    source.write_text(text.replace("main", "other"))
    assert "flow.py has no 'main'" in flow.cascade("resume", "r", *store).stderr
    source.unlink()
    gone = flow.cascade("resume", "r", *store)
    assert (gone.exit_code, "that file is gone" in gone.stderr) == (2, True)
    monkeypatch.chdir(tmp_path)
    flow.path.rename(tmp_path / "moved")
    gone = flow.cascade("resume", "r", *store)
    assert (gone.exit_code, "cannot be entered" in gone.stderr) == (2, True)


def test_a_run_from_code_is_shown_but_cannot_be_resumed_here(flow: Folder) -> None:
    import cascade as cs

    cs.run(cs.task(len)("abc"), run_id="coded", store="coded.db", log_level="CRITICAL")
    assert "started from code" in flow.cascade("show", "coded", "--store", "coded.db").stdout
    refused = flow.cascade("resume", "coded", "--store", "coded.db")
    assert (refused.exit_code, "started from code" in refused.stderr) == (2, True)


def test_no_code_is_loaded_by_what_somebody_else_wrote_into_the_store(flow: Folder, tmp_path: Path) -> None:
    evil = flow.write("evil.py", "open('ran', 'w').close()\nmain = 1\n")
    told = {"version": 1, "file": str(evil), "module": "evil", "name": "main", "params": {}, "folder": str(flow.path)}
    told |= {"on_failure": "stop", "max_workers": None, "durability": "committed", "signature": "00" * 40}
    store = tmp_path / "kept.db"
    put(store, row("r", program=json.dumps(told), status="failed"))
    for more in ((), ("--explain",)):
        refused = flow.cascade("resume", "r", "--store", str(store), *more)
        assert (refused.exit_code, "altered or signed with another key" in refused.stderr) == (2, True)
    assert not (flow.path / "ran").exists()


def test_explain_tells_what_is_reused_runs_again_or_is_gone(flow: Folder) -> None:
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:skipped", "--run-id", "r", "--on-failure", "continue")
    source = flow.path / "flow.py"
    source.write_text(source.read_text().replace('fetch("y")', 'fetch("z")').replace("single, cs.pipe", "cs.pipe"))
    (flow.path / "ledger").unlink()
    done = flow.cascade("resume", "r", "--explain")
    assert done.exit_code == 0
    told = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert any(line.startswith("bool#1 reused") for line in told)
    assert any(line.startswith("fetch#0 runs changed: what is journaled of fetch#0 has another") for line in told)
    assert any(" gone it is journaled" in line for line in told)
    assert done.stdout.endswith("nothing was run\n")
    assert not (flow.path / "ledger").exists()


def test_explain_tells_what_cannot_go_on_since_the_code_lacks_what_it_needs(folder: Folder) -> None:  # S27
    source = """
        import cascade as cs

        @cs.task
        def turn(n, total):
            if n == 0:
                raise RuntimeError("it is broken")
            return turn(n - 1, add(total, n))

        @cs.task
        def add(a, b):
            return a + b

        @cs.task
        def part(n):
            return add(broken(), n)

        @cs.task
        def broken():
            raise RuntimeError("it is broken")

        loop = turn(3, 0)
        parts = [part(1), add(1, 1)]
        """
    folder.write("flow.py", source)
    assert folder.cascade("run", "flow.py:loop", "--run-id", "loop").exit_code == 1
    assert folder.cascade("run", "flow.py:parts", "--run-id", "parts").exit_code == 1
    whole = folder.cascade("resume", "loop", "--explain").stdout
    assert "goes on" in whole
    assert "fails" not in whole
    folder.write("flow.py", source.replace("add(", "plus("))
    for run_id, place in (("loop", "target, turn 3"), ("parts", "part#0")):
        told = " ".join(folder.cascade("resume", run_id, "--explain").stdout.split())
        assert f"{place} fails" in told
        assert "needs 'flow:add', which cannot be found" in told
        assert "1 to fail" in told
        failed = folder.cascade("resume", run_id)
        assert failed.exit_code == 1
        assert "needs 'flow:add', which cannot be found" in failed.stderr


def test_explain_of_failed_and_of_finished_runs(flow: Folder) -> None:
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:main", "--run-id", "r")
    told = flow.cascade("resume", "r", "--explain").stdout
    assert "2 items are journaled" in told
    assert "1 of it failed before" in told or "2 of it failed before" in told
    (flow.path / "fail").unlink()
    flow.cascade("resume", "r")
    assert "has finished: resume gives its value" in flow.cascade("resume", "r", "--explain").stdout


def test_explain_and_why_tell_that_a_skip_because_of_a_failure_is_decided_again(flow: Folder) -> None:  # S12, S27
    flow.write(
        "healing.py",
        """
        import os
        import cascade as cs

        @cs.task
        def check(x: int) -> bool:
            if os.path.exists("fail"):
                raise ValueError("no luck")
            return x > 0

        @cs.task
        def double(x: int) -> int:
            return 2 * x

        no = cs.task(bool)(0)
        doubled = double(cs.task(int)(check(1)))
        left_out = cs.pipeline(7, [lambda n: double(doubled).run_if(no)])
        skipped = cs.pipeline(7, [lambda n: double(n).run_if(no)])
        main = [left_out, doubled, double(3).run_if(cs.task(bool)(doubled)), skipped]
        """,
    )
    (flow.path / "fail").touch()
    flow.cascade("run", "healing.py:main", "--run-id", "r", "--on-failure", "continue")
    told = [" ".join(line.split()) for line in flow.cascade("resume", "r", "--explain").stdout.splitlines()]
    fates = {line.partition(" ")[0]: line.partition(" ")[2] for line in told if "#" in line}
    skipped = [fate for fate in fates.values() if "skipped" in fate]
    assert sum("it was skipped: ConditionFalse" in fate and fate.startswith("reused") for fate in skipped) == 2
    assert sum(fate.startswith("runs") and "is decided again" in fate for fate in skipped) == len(skipped) - 2 >= 3
    assert told[-1] == "3 reused, 5 to run; nothing was run"
    place, _ = [name for name, fate in fates.items() if "ConditionFalse" in fate]
    assert "unless that depends on what has failed" in flow.cascade("why", "r", place).stdout
    place = next(name for name, fate in fates.items() if "UpstreamFailed" in fate)
    assert "tries again what has failed" in flow.cascade("why", "r", place).stdout


def test_explain_tells_that_what_nobody_chose_after_a_failure_is_decided_again(flow: Folder) -> None:  # S11, S27
    flow.write(
        "choosing.py",
        """
        import os
        import cascade as cs

        @cs.task
        def choose(n: int) -> str:
            if os.path.exists("fail"):
                raise ValueError("no luck")
            return "left"

        @cs.task
        def costly(x: int) -> int:
            return 2 * x

        @cs.task
        def cheap(x: int) -> int:
            return x

        late = cs.Router(choose(1), {"left": costly(costly(1)), "right": [costly(2)]})
        taken = cs.Router(cs.task(bool)(1), {True: cheap(3), False: cheap(cheap(choose(4)))})
        main = [late, taken]
        """,
    )
    (flow.path / "fail").touch()
    flow.cascade("run", "choosing.py:main", "--run-id", "r", "--on-failure", "continue")
    told = [" ".join(line.split()) for line in flow.cascade("resume", "r", "--explain").stdout.splitlines()]
    again = [line for line in told if "(Pruned): that is decided again" in line]
    assert [line.partition("#")[0] for line in again] == ["costly", "costly", "costly"]
    assert all("runs it was skipped and depends on choose#" in line for line in again)
    final = [line for line in told if "reused it was skipped: Pruned" in line]
    assert [line.partition("#")[0] for line in final] == ["choose", "cheap", "cheap"]
    assert told[-1] == "5 reused, 4 to run; nothing was run"
    place = again[0].partition(" ")[0]
    assert "took other routes, or none (Pruned)" in flow.cascade("why", "r", place).stdout
    (flow.path / "fail").unlink()
    assert flow.cascade("resume", "r").exit_code == 0
    states = {place["id"]: place["kind"] for place in json.loads(flow.cascade("show", "r", "--json").stdout)["places"]}
    assert sorted(states[line.partition(" ")[0]] for line in again) == ["skipped", "value", "value"]


def test_runs_are_filtered_by_status_name_and_time(flow: Folder) -> None:
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:main", "--run-id", "bad")
    flow.cascade("run", "flow.py:pages", "--run-id", "good")

    def listed(*arguments: str) -> list[str]:
        done = flow.cascade("runs", "--json", *arguments)
        assert done.exit_code == 0
        return [run["run_id"] for run in json.loads(done.stdout)]

    assert listed() == ["good", "bad"]
    assert listed("--status", "failed") == ["bad"]
    assert listed("--status", "failed", "--status", "succeeded") == ["good", "bad"]
    assert listed("--name", "ma*") == listed("--name", "flow.py:main") == listed("--name", "total") == ["bad"]
    assert listed("--since", "1h") == ["good", "bad"]
    assert listed("--since", "2999-01-01") == []
    assert "no such runs" in flow.cascade("runs", "--status", "running").stdout
    assert flow.cascade("runs", "--since", "soon").exit_code == 2
    assert flow.cascade("runs", "--status", "odd").exit_code == 2


def test_the_json_of_runs_and_of_one_has_the_documented_fields(flow: Folder) -> None:
    flow.cascade("run", "flow.py:main", "--run-id", "r", "-p", "times=2")
    (run,) = json.loads(flow.cascade("runs", "--json").stdout)
    assert set(run) == {
        "run_id", "status", "target", "file", "module", "name", "params", "folder", "created", "updated", "owners",
        "owner", "error",
    }  # fmt: skip
    assert (run["status"], run["file"], run["params"]) == (
        "succeeded", str(flow.path / "flow.py"), {"times": ["2"]},
    )  # fmt: skip
    whole = json.loads(flow.cascade("show", "r", "--json").stdout)
    assert set(whole) == {*run, "result", "active", "blocked", "places"}
    assert set(whole["places"][0]) == {
        "id", "scope", "node", "inner", "kind", "label", "name", "turn", "attempt", "began", "ended", "detail",
        "preview",
    }  # fmt: skip
    assert {place["id"] for place in whole["places"]} >= {"fetch#0", "fetch#0[0]", "fetch#0[1]"}
    documented = REFERENCE.read_text()
    for field in (*whole, *whole["places"][0]):
        assert f"`{field}`" in documented


def test_the_reference_has_every_command_with_its_options() -> None:
    from typer.main import get_command

    from cascade.tools.command.app import app

    program: Any = get_command(app)
    documented = REFERENCE.read_text()
    rows = " ".join(re.findall(r"^\| (`(?:cascade )?[a-z]+ .*?) \|", documented, re.MULTILINE))
    headings = " ".join(re.findall(r"^## (cascade .+)$", documented, re.MULTILINE))
    for name, command in program.commands.items():
        assert re.search(rf"`(cascade )?{name}[ `]", rows), name
        # Limits and their commands share a section.
        assert re.search(rf"\b{name}\b", headings), name
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert option in documented, (name, option)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["pause", "global", "--ttl", "0s"], "--ttl: expected an age above 0"),
        (["pause", "global", "--ttl", "9" * 400 + "s"], "--ttl: expected an age above 0"),
        (["pause", "global", "--ttl", "soon"], "--ttl: expected an age such as"),
        (["pause", "task:"], "a scope must be"),
        (["limit", "global", "--concurrency", "1", "--ttl", "0m"], "--ttl: expected an age above 0"),
        (["limit", "global", "--rate", "0/s"], "a rate must be"),
        (["limit", "global", "--rate", "9" * 400 + "/s"], "--rate: no number of calls"),
    ],
)
def test_a_limit_that_means_nothing_is_wrong_use(flow: Folder, arguments: list[str], problem: str) -> None:  # S24
    flow.cascade("run", "flow.py:single", "--run-id", "r")
    told = flow.cascade(*arguments)
    assert told.exit_code == 2, told.output
    assert told.stderr.startswith(f"error: {problem}")
    assert "raised at" not in told.stderr
    assert json.loads(flow.cascade("limits", "--json").stdout) == []


def test_show_has_states_attempts_errors_and_previews(flow: Folder) -> None:
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:skipped", "--run-id", "r", "--on-failure", "continue")
    told = flow.cascade("show", "r").stdout
    assert "failed" in told.splitlines()[0]
    assert "'page x'" in told
    assert "skipped: ConditionFalse" in told
    assert "ValueError: no luck" in told
    assert told.endswith("go on with:  cascade resume r\n")


def test_show_counts_no_question_for_the_value_as_a_resumption(flow: Folder) -> None:
    (flow.path / "fail").touch()
    for command in (["run", "flow.py:single", "--run-id", "r"], ["resume", "r"]):
        assert flow.cascade(*command).exit_code == 1
    assert "\nresumed  1 time\n" in flow.cascade("show", "r").stdout
    (flow.path / "fail").unlink()
    for _ in range(3):
        assert flow.cascade("resume", "r").stdout == "6\n"
    told = flow.cascade("show", "r").stdout
    assert "resumed" not in told
    assert "\nowners   5, those that only asked for its value included\n" in told


def test_show_of_many_items_shows_the_failed_and_the_first() -> None:
    from cascade.tools.command.journal_tree import Place
    from cascade.tools.command.show import _chosen

    def item(number: int) -> Place:
        kind: Any = "failed" if number == 400 else "value"
        made = Record(ROOT_GRAPH, b"", kind, 0, f"[{number}]", "t", 1, 0.0, 0.0, None, None, None, None)
        return Place(made, f"t#0[{number}]", f"[{number}]")

    chosen = _chosen([item(number) for number in range(1000)])
    assert len(chosen) == 21
    assert chosen[-1] == "and 980 more: 980 done"
    assert [place.title for place in chosen[:-1] if isinstance(place, Place)][-1] == "[400]"


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ("fetch#0", "has run"),
        ("measure#4", "its condition (run_if) was false (ConditionFalse)"),
        ("measure#2", "a failure is not final"),
    ],
)
def test_why_says_what_became_of_a_node(flow: Folder, node: str, told: str) -> None:
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:skipped", "--run-id", "r", "--on-failure", "continue")
    labels = {place["label"]: place for place in json.loads(flow.cascade("show", "r", "--json").stdout)["places"]}
    kind = {"has run": "value", "a failure is not final": "failed"}.get(told, "skipped")
    label = next(label for label, place in labels.items() if place["kind"] == kind)
    done = flow.cascade("why", "r", label)
    assert (done.exit_code, told in done.stdout) == (0, True)
    assert flow.cascade("why", "r", labels[label]["node"][:12]).stdout == done.stdout


def test_why_does_not_say_that_a_map_was_called_whose_items_were_reused(flow: Folder) -> None:  # S27
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:both", "--run-id", "r", "--on-failure", "continue")
    (flow.path / "fail").unlink()
    assert flow.cascade("resume", "r").exit_code == 0
    places = json.loads(flow.cascade("show", "r", "--json").stdout)["places"]
    mapped = next(place["label"] for place in places if place["kind"] == "mapped")
    told = flow.cascade("why", "r", mapped).stdout
    assert "its items had all ended at " in told
    assert "so it was called" not in told
    assert "so it was called" in flow.cascade("why", "r", f"{mapped}[0]").stdout


def test_a_map_with_items_that_failed_has_failed_and_is_known_by_its_name(flow: Folder) -> None:  # S15 S17 S27
    flow.write("flow.py", FLOW.replace('if os.path.exists("fail")', 'if page == "page bb" and os.path.exists("fail")'))
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:main", "--run-id", "r", "--on-failure", "continue")
    shown = flow.cascade("show", "r").stdout
    assert "not ended" not in shown
    assert re.search(r"measure#2 +failed", shown)
    for node in ("measure#2", "measure#2[1]"):
        assert "ValueError: no luck" in flow.cascade("why", "r", node).stdout
    told = flow.cascade("resume", "r", "--explain").stdout
    assert re.search(r"measure#2 +goes on +1 item ended before and are reused; 1 of it failed before", told)
    (flow.path / "fail").unlink()
    assert flow.cascade("resume", "r").stdout == "sum 13\n"
    assert re.search(r"measure#2 +done", flow.cascade("show", "r").stdout)


def test_why_explains_a_cache(folder: Folder) -> None:  # S25
    source = """
        import cascade as cs

        @cs.task
        def halve(n: int) -> int:
            return n // 2

        kept = halve.with_cache(cs.InputsCache())
        main = kept(kept(cs.Param("n", default=8)))
    """
    folder.write("cached.py", source)
    assert folder.cascade("run", "cached.py:main", "--run-id", "r").exit_code == 0
    assert "cache  called now, it would be a " in folder.cascade("why", "r", "halve#1").stdout
    assert "covers values of other nodes" in folder.cascade("why", "r", "halve#2").stdout
    (folder.path / "cached.py").unlink()
    assert "cache  not known" in folder.cascade("why", "r", "halve#1").stdout


def test_why_of_an_unknown_or_ambiguous_node_suggests(flow: Folder) -> None:
    flow.cascade("run", "flow.py:main", "--run-id", "r")
    unknown = flow.cascade("why", "r", "fetch#9")
    assert (unknown.exit_code, "did you mean 'fetch#0'" in unknown.stderr) == (2, True)
    several = flow.cascade("why", "r", "[0]")
    assert (several.exit_code, "2 places are called" in several.stderr) == (2, True)
    assert flow.cascade("why", "r", "total").stdout.startswith("total#")


@pytest.mark.parametrize("command", [["runs"], ["show", "r"], ["why", "r", "n"], ["resume", "r"], ["rm", "r"], ["gc"]])
def test_a_store_that_is_not_there_is_not_made(folder: Folder, command: list[str]) -> None:
    for more in ([], ["--store", "missing.db"], ["--store", "sqlite:///deep/missing.db"]):
        done = folder.cascade(*command, *more)
        assert done.exit_code == 2
        assert "there is no " in done.stderr
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("command", [["show"], ["why", "n"], ["resume"], ["rm"]])
def test_an_unknown_run_is_refused_with_a_suggestion(flow: Folder, command: list[str]) -> None:
    flow.cascade("run", "flow.py:pages", "--run-id", "nightly-7")
    done = flow.cascade(command[0], "nigthly-7", *command[1:])
    assert (done.exit_code, "did you mean 'nightly-7'?" in done.stderr) == (2, True)


def test_the_environment_chooses_the_store(flow: Folder) -> None:
    env = {"CASCADE_STORE": "sqlite:///chosen.db"}
    assert flow.cascade("run", "flow.py:pages", "--run-id", "r", env=env).exit_code == 0
    assert not (flow.path / ".cascade").exists()
    assert "r" in flow.cascade("runs", "--store", "chosen.db").stdout


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("", "--store: expected a URL or the path of a SQLite file, got ''"),
        ("sqlite:///", "--store: expected a URL or the path of a SQLite file, got 'sqlite:///'"),
        ("mysql://host/x", "no store is known by 'mysql'"),
        ("sqlite://", "sqlite:// is no store; name a file"),
        ("sqlite://host/x.db", "sqlite://host/x.db is no store; name a file"),
        (".", "the store "),
    ],
)
def test_a_store_that_can_be_none_is_wrong_use(flow: Folder, store: str, told: str) -> None:
    for command in (["run", "flow.py:main"], ["runs"], ["resume", "r"]):
        done = flow.cascade(*command, "--store", store)
        assert (done.exit_code, done.stderr.startswith(f"error: {told}")) == (2, True), done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (flow.path / ".cascade").exists()


@pytest.mark.needs_extra("redis", "postgresql")
@pytest.mark.parametrize("store", ["redis://h:99999/0", "redis://[", "postgresql://h:x/y", "postgresql://h:99999/y"])
def test_a_url_that_is_no_address_is_wrong_use(flow: Folder, store: str) -> None:
    for command in (["run", "flow.py:main"], ["runs"], ["resume", "r"]):
        done = flow.cascade(*command, "--store", store)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_store_in_a_folder_that_is_not_there_is_wrong_use(flow: Folder) -> None:
    done = flow.cascade("run", "flow.py:main", "--store", "nowhere/flows.db")
    assert (done.exit_code, f"there is no folder {flow.path}/nowhere; make it first" in done.stderr) == (2, True)
    assert not (flow.path / "nowhere").exists()


@pytest.mark.parametrize("key", ["abc", "not hexadecimal", ""])
def test_a_key_that_is_none_is_wrong_use_and_nothing_is_run(flow: Folder, key: str) -> None:
    done = flow.cascade("run", "flow.py:main", "--store", "kept.db", env={"CASCADE_KEY": key})
    assert (done.exit_code, done.stderr.startswith("error: the key that signs")) == (2, True), done.stderr
    assert not (flow.path / "kept.db").exists()
    assert not (flow.path / "ledger").exists()


def test_a_working_directory_that_was_deleted_is_told(folder: Folder, tmp_path: Path) -> None:
    folder.write("flow.py", FLOW)
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for command in (["run", "flow.py:main"], ["run", "flow:main"], ["runs"], ["resume", "r", "--store", "kept.db"]):
        done = folder.cascade(*command)
        assert (done.exit_code, done.stderr) == (
            2,
            "error: the working directory has been deleted; go to another one with cd\n",
        )
    # What needs none does not ask for one.
    assert "there is no store" in folder.cascade("runs", "--store", str(tmp_path / "kept.db")).stderr


def test_the_version_is_that_of_the_distribution(folder: Folder) -> None:
    done = folder.cascade("--version")
    assert (done.exit_code, done.stdout) == (0, f"cascade {version('cascade-py')}\n")


def test_a_store_that_fails_ends_with_1(flow: Folder) -> None:
    (flow.path / "text.db").write_text("no database " * 100)
    done = flow.cascade("runs", "--store", "text.db")
    assert (done.exit_code, done.stderr.startswith("error: store ")) == (1, True)
    # Neither where in the program it was noticed, nor the library's own words once more.
    assert len(done.stderr.splitlines()) == 1


def test_a_run_with_an_owner_is_running_until_its_lock_or_lease_is_gone(flow: Folder) -> None:
    store = flow.path / "owned.db"
    url = f"sqlite:///{store}"
    mine = HostLock(url, "here")
    far = 4e9
    put(store, row("here", host=mine.token, lease_until=far))
    put(store, row("far", lease_until=far))
    put(store, row("late", lease_until=20.0))

    def listed() -> dict[str, str]:
        told = json.loads(flow.cascade("runs", "--json", "--store", str(store)).stdout)
        return {run["run_id"]: run["status"] for run in told}

    assert listed() == {"here": "interrupted", "far": "running", "late": "interrupted"}
    refused = flow.cascade("rm", "far", "--yes", "--store", str(store))
    assert (refused.exit_code, "it is running" in refused.stderr) == (2, True)
    assert mine.take()
    try:
        assert flow.cascade("rm", "here", "--yes", "--store", str(store)).exit_code == 2
    finally:
        mine.release()
    assert flow.cascade("rm", "here", "--yes", "--store", str(store)).exit_code == 0
    assert set(listed()) == {"far", "late"}


def test_rm_asks_and_takes_no_answer_for_no(flow: Folder) -> None:
    flow.cascade("run", "flow.py:pages", "--run-id", "r")
    done = flow.cascade("rm", "r", input="y\n")
    assert (done.exit_code, "there is nobody to ask" in done.stderr.lower()) == (2, True)
    assert flow.cascade("show", "r").exit_code == 0
    assert flow.cascade("rm", "r", "-y").exit_code == 0
    assert flow.cascade("show", "r").exit_code == 2


def test_gc_removes_runs_that_ended_long_ago_and_none_that_was_interrupted(flow: Folder) -> None:
    store = flow.path / "old.db"
    for status in ("succeeded", "failed", "running"):
        put(store, row(status, status=status))
    put(store, row("cancelled", status="cancelled", error="RunCancelledError: by cascade cancel"))
    put(store, row("signalled", status="cancelled", error="CancelledError"))
    assert flow.cascade("gc", "--store", str(store)).stdout == "removed 0 leftovers\n"
    done = flow.cascade("gc", "--older-than", "1s", "--store", str(store))
    assert (done.exit_code, done.stdout) in [(0, "removed 3 runs and 0 leftovers\n"), (0, "removed 0 runs\n")]
    left = json.loads(flow.cascade("runs", "--json", "--store", str(store)).stdout)
    assert {run["run_id"] for run in left} == {"running", "signalled"}
    assert flow.cascade("gc", "--older-than", "long", "--store", str(store)).exit_code == 2


HOSTILE = [
    "\x1b[31mred",
    "[bold]x[/bold]",
    "'; DROP TABLE cascade_runs; --",
    "a\0b",
    "\ud800",
    "\u202e\r\n",
    "-x",
    "é 漢",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(flow: Folder, text: str) -> None:
    store = flow.path / "hostile.db"
    made = Record(ROOT_GRAPH, b"n" * 16, "failed", 0, f"{text}#0", text, 2, 1.0, 2.0, text, text, None, None)
    put(store, row(text, target=text, status="failed", error=text, program=text), made)
    for command in (["runs"], ["show", "--", text], ["why", "--", text, "6e6e6e6e"]):
        done = flow.cascade(command[0], "--store", str(store), *command[1:])
        assert done.exit_code == 0, done.output
        shown = done.stdout.replace("\n", "")
        assert not set(shown) & set("\x1b\0\r\u202e\ud800")
        if text.isprintable():
            assert text in shown
    (run,) = json.loads(flow.cascade("runs", "--json", "--store", str(store)).stdout)
    assert (run["run_id"], run["target"], run["error"]) == (text, text, text)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_terminal_of_any_width_shows_whole_ids(flow: Folder, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flow.cascade("run", "flow.py:pages", "--run-id", "a-run-with-a-rather-long-id")
    env = {"COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "xterm"}
    for command in (["runs"], ["show", "a-run-with-a-rather-long-id"]):
        done = flow.cascade(*command, env=env)
        assert "a-run-with-a-rather-long-id" in done.stdout
        assert "\x1b[" in done.stdout
        plain = "".join(
            part.partition("m")[2] if place else part for place, part in enumerate(done.stdout.split("\x1b["))
        )
        assert max(map(len, plain.splitlines())) <= width


def test_where_nobody_looks_nothing_is_cut(flow: Folder) -> None:
    (flow.path / "fail").touch()
    flow.cascade("run", "flow.py:single", "--run-id", "r" * 90, env={"COLUMNS": "20"})
    told = flow.cascade("runs", env={"COLUMNS": "20"}).stdout
    assert f"{'r' * 90}  failed" in told
    assert "ValueError: no luck" in told


def test_plan_and_graph_run_nothing(flow: Folder) -> None:
    planned = flow.cascade("plan", "flow.py:main", "-p", "times=7")
    assert (planned.exit_code, "times = 7" in planned.stdout) == (0, True)
    assert flow.cascade("plan", "flow.py:main", "-p", "times=x").exit_code == 2
    assert flow.cascade("graph", "flow.py:main").stdout.startswith("flowchart")
    assert flow.cascade("graph", "flow.py:main", "--format", "dot").stdout.startswith("digraph")
    assert sorted(os.listdir(flow.path)) == ["flow.py"]


def test_a_secret_parameter_is_in_no_store_and_is_given_again_on_resume(folder: Folder) -> None:
    folder.write(
        "flow.py",
        """
        import os
        import cascade as cs

        @cs.task
        def call(token):
            if not os.path.exists("healed"):
                raise RuntimeError("the service is down")
            return len(token.reveal())

        main = call(cs.Param("token", type=cs.Secret))
        """,
    )
    failed = folder.cascade("run", "flow.py:main", "--param", "token=hunter2-hunter2", "--run-id", "r")
    assert failed.exit_code == 1
    assert "again with the same --param token and:  cascade resume r" in failed.stderr
    kept = b"".join(file.read_bytes() for file in (folder.path / ".cascade").rglob("*") if file.is_file())
    assert b"hunter2" not in kept
    (folder.path / "healed").touch()
    refused = folder.cascade("resume", "r")
    assert refused.exit_code == 2
    assert "a secret is in no store; give it again with --param token=VALUE" in refused.output
    (folder.path / "healed").unlink()
    failed = folder.cascade("resume", "r", "--param", "token=hunter2-hunter2")
    assert "again with the same --param token and:  cascade resume r" in failed.stderr
    (folder.path / "healed").touch()
    resumed = folder.cascade("resume", "r", "--param", "token=hunter2-hunter2")
    assert (resumed.exit_code, resumed.stdout.strip()) == (0, "15")
