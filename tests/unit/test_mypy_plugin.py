"""The mypy plugin on small programs, each checked by mypy itself. (S1, S4, S5, S10, S17)

A line that ends in `# E: text` must have an error with that text, and no other line may have one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cascade

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.needs_extra("mypy")

DECLARATIONS = """\
from __future__ import annotations
import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, assert_type
import cascade as cs

T = TypeVar("T")
P = ParamSpec("P")

@cs.task
def fetch(url: str, times: int = 1) -> bytes: ...
@cs.task
def count(page: bytes) -> int: ...
@cs.task
def address(n: int) -> str: ...
@cs.task
def mean(values: list[float], *more: float, digits: int = 2, **notes: str) -> float: ...
@cs.task
def first(items: list[T]) -> T: ...
@cs.task
def pair() -> tuple[int, str]: ...
"""


@pytest.fixture(scope="module")
def run_mypy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Check a program and give mypy's lines, those of errors and of revealed types."""
    from mypy import api

    folder = tmp_path_factory.mktemp("mypy")
    settings = [
        "[mypy]",
        "strict = True",
        "disable_error_code = empty-body",
        f"mypy_path = {Path(cascade.__file__).parents[1]}",
        "follow_imports = silent",
    ]
    (folder / "with.ini").write_text("\n".join([*settings, "plugins = cascade.mypy_plugin"]))
    (folder / "without.ini").write_text("\n".join(settings))

    def run(program: str, *, plugin: bool = True) -> list[str]:
        path = folder / "program.py"
        path.write_text(DECLARATIONS + program)
        name = "with" if plugin else "without"
        report, trouble, _ = api.run(
            ["--config-file", str(folder / f"{name}.ini"), "--cache-dir", str(folder / name), str(path)]
        )
        assert not trouble, trouble
        assert "INTERNAL ERROR" not in report, report
        return report.splitlines()

    return run


def disagreements(program: str, report: list[str]) -> list[str]:
    """What the report says otherwise than the comments in the program."""
    offset = DECLARATIONS.count("\n")
    found: dict[int, str] = {}
    for line in report:
        match = re.match(r".*program\.py:(\d+): error: (.*)", line)
        if match:
            number = int(match[1]) - offset
            found[number] = found.get(number, "") + match[2] + "\n"
    wrong: list[str] = []
    for number, line in enumerate(program.splitlines(), 1):
        expected = line.partition("# E: ")[2]
        error = found.pop(number, "")
        if (expected not in error) if expected else error:
            wrong.append(f"{line!r} gave {error!r}")
    return wrong + [f"outside the program: {error}" for error in found.values()]


PROGRAMS = {
    "a_wrong_name_or_number_is_an_error_that_names_the_task": """
fetch()  # E: Missing positional argument "url" in call to "fetch"
fetch("u", 1, 2)  # E: Too many arguments for "fetch"
fetch("u", time=1)  # E: Unexpected keyword argument "time" for "fetch"; did you mean "times"?
fetch("u", url="u")  # E: "fetch" gets multiple values for keyword argument "url"
fetch.with_retry(3)("u", 1, 2)  # E: Too many arguments for "fetch.with_retry(...)"
""",
    "an_argument_is_a_value_or_a_lazy_value_of_the_right_type": """
fetch("u", 2)
fetch(address(1), times=count(b""))
fetch(3)  # E: Argument 1 to "fetch" has incompatible type "int"; expected "str"
fetch(count(b""))  # E: Argument 1 to "fetch" has incompatible type "int"; expected "str"
fetch("u", times=address(1))  # E: Argument "times" to "fetch" has incompatible type "str"; expected "int"
""",
    "unions_subtypes_and_any_are_accepted_where_all_of_them_fit": """
def check(either: int | cs.LazyResult[int], wrong: str | cs.LazyResult[int], anything: Any) -> None:
    address(either)
    address(True)
    address(cs.task(bool)(1))
    address(anything)
    address(cs.Param("n"))
    address(cs.inject("n"))
    address(wrong)  # E: Argument 1 to "address" has incompatible type "str | int"; expected "int"
    address(1 if either else count(b""))
    address("a" if anything else count(b""))  # E: has incompatible type "str | int"; expected "int"
""",
    "all_kinds_of_parameters_are_checked": """
@cs.task
def kinds(a: int, /, b: int = 1, *rest: int, c: int, d: int = cs.inject("d"), **others: int) -> int: ...
kinds(1, c=2)
kinds(count(b""), 2, count(b""), c=count(b""), e=count(b""))
kinds(1, *[count(b"")], c=1, **{"e": count(b"")})
kinds(a=1, c=2)  # E: Too few arguments for "kinds"
kinds(1)  # E: Missing named argument "c" for "kinds"
kinds(1, 2, address(1), c=1)  # E: Argument 3 to "kinds" has incompatible type "str"; expected "int"
kinds(1, c=1, e=address(1))  # E: Argument "e" to "kinds" has incompatible type "str"; expected "int"
kinds(1, *[address(1)], c=1)  # E: has incompatible type "*list[str]"; expected "int"
""",
    "containers_may_hold_lazy_values_at_any_depth": """
class Row(TypedDict):
    name: str
    size: int
@cs.task
def store(rows: list[Row], index: dict[str, tuple[int, ...]] | None = None) -> None: ...
mean([1, 2.0, count(b"")])
mean([*[1.0], count(b"")])
mean([count(b"") for _ in range(3)])
store([{"name": address(1), "size": count(b"")}], {"a": (1, count(b""))})
collected = [count(b""), count(b"")]
mean(collected)
mean([address(1)])  # E: List item 0 has incompatible type "str"; expected "float"
store([{"name": address(1), "size": address(1)}])  # E: TypedDict item "size" has type "int"
fetch(collected)  # E: Argument 1 to "fetch" has incompatible type "list[Any]"; expected "str"
mean([*fetch("u")[0]])  # E: Expected iterable as variadic argument
""",
    "what_is_expected_of_an_argument_is_known_when_it_is_inferred": """
@cs.task
def render(mode: Literal["r", "w"], sizes: list[float], key: Callable[[int], str]) -> None: ...
render("r", [1, 2], lambda n: str(n + 1))
render("r", [], lambda n: n)  # E: Incompatible return value type (got "int", expected "str")
render("x", [], str)  # E: Argument 1 to "render" has incompatible type "Literal['x']"
""",
    "generic_functions_keep_their_type_variables": """
@cs.task(pure=True)
async def keyed(key: str, value: T) -> dict[str, T]: ...
assert_type(first([1]), cs.LazyResult[int])
assert_type(first([address(1), "b"]), cs.LazyResult[str])
assert_type(first.with_retry(2)([b""]), cs.LazyResult[bytes])
assert_type(first.map(items=[[1], [2]]), cs.MappedLazyResult[int])
assert_type(keyed("a", count(b"")), cs.LazyResult[dict[str, int]])
address(first([1]))
address(first(["a"]))  # E: Argument 1 to "address" has incompatible type "str"; expected "int"
keyed(1, 2)  # E: Argument 1 to "keyed" has incompatible type "int"; expected "str"
""",
    "overloaded_builtins_are_tasks": """
assert_type(cs.task(max)(count(b""), 3), cs.LazyResult[int])
assert_type(cs.task(max)([address(1)]), cs.LazyResult[str])
assert_type(cs.task(max, name="most").map([[1], [2]]), cs.MappedLazyResult[int])
assert_type(cs.task(sorted)(cs.task(list)([count(b"")]), reverse=True), cs.LazyResult[list[int]])
address(cs.task(sum)([count(b""), 1]))
cs.task(round)(mean([]), "a")  # E: No overload variant of "round" matches argument types
cs.task(sum)(cs.task(len)([]))  # E: No overload variant of "sum" matches argument type "int"
""",
    "methods_lambdas_and_partials_are_checked": """
class Store:
    @cs.task
    def load(self, key: str, default: int = 0) -> int: ...
Store().load(address(1), default=count(b""))
Store().load(1)  # E: has incompatible type "int"; expected "str"
Store.load(Store(), "k", "v")  # E: Argument 3 to "Store.load" has incompatible type "str"; expected "int"
cs.task(lambda: 1)(2)  # E: Too many arguments
cs.task(functools.partial(fetch.function, times=2))("u")
""",
    "a_partial_is_checked_and_knows_what_is_left": """
assert_type(fetch.partial(address(1))(count(b"")), cs.LazyResult[bytes])
fetch.partial(url="u")(times=2)
fetch.partial(times=2).map(url=["u"])
fetch.partial(times=2).partial(url="u")()
mean.partial([], 1.0)(2.0, note="n")
fetch.partial(1)  # E: Argument 1 to "fetch.partial" has incompatible type "int"; expected "str"
fetch.partial(time=1)  # E: Unexpected keyword argument "time" for "fetch.partial"
fetch.partial("u")("v", 1)  # E: Too many arguments
fetch.partial(url="u")(2)  # E: Too many positional arguments
fetch.partial(times=2)()  # E: Missing positional argument "url"
""",
    "a_map_takes_iterables_of_what_the_task_takes": """
fetch.map(url=["u", address(1)], times=range(2))
fetch.map(cs.Param("urls", type=list[str]))
fetch.map(url=(address(n) for n in range(3)))
count.map(page=fetch.map(url=["u"]))
cs.task(len).map(obj=[[1]])
fetch.map(url=1)  # E: Argument "url" to "fetch.map" has incompatible type "int"; expected "Iterable[str]"
fetch.map(url=[1])  # E: List item 0 has incompatible type "int"; expected "str"
fetch.map(url=count.map(page=[]))  # E: has incompatible type "list[int]"; expected "Iterable[str]"
fetch.map(link=["u"])  # E: Unexpected keyword argument "link" for "fetch.map"
""",
    "parts_of_lazy_values_have_their_types": """
class Row(TypedDict):
    name: str
    size: int
@cs.task
def row() -> Row: ...
@cs.task
def words() -> list[str]: ...
assert_type(pair()[1], cs.LazyResult[str])
assert_type(row()["size"], cs.LazyResult[int])
assert_type(words()[0], cs.LazyResult[str])
assert_type(words()[1:], cs.LazyResult[list[str]])
assert_type(words()[count(b"")], cs.LazyResult[Any])
assert_type(pair().unpack(2), tuple[cs.LazyResult[int], cs.LazyResult[str]])
assert_type(words().unpack(2), tuple[cs.LazyResult[str], cs.LazyResult[str]])
assert_type(words().unpack(int()), tuple[cs.LazyResult[Any], ...])
row()["sise"]  # E: "sise" is not a valid TypedDict key
count(b"")[0]  # E: Value of type "int" is not indexable
pair().unpack(3)  # E: unpack(3) of a tuple of 2 items
""",
    "a_router_has_the_type_of_all_its_routes": """
selector = cs.Param("n", type=int)
assert_type(cs.Router(selector, {1: count(b""), 2: count(b"")}), cs.Router[int])
assert_type(cs.Router(selector, {1: count(b""), 2: 3}), cs.Router[int])
assert_type(cs.Router(selector, {1: count(b""), 2: "a"}), cs.Router[int | str])
assert_type(cs.Router(selector, {1: count(b""), None: None}), cs.Router[int | None])
address(cs.Router(selector, {1: count(b""), 2: "a"}))  # E: has incompatible type "int | str"
""",
    "tasks_whose_parameters_are_not_known_take_anything": """
def passed_on(task: cs.Task[P, T], *args: P.args, **kwargs: P.kwargs) -> cs.LazyResult[T]:
    return task(*args, **kwargs)
def called(task: cs.Task[..., T]) -> cs.LazyResult[T]:
    task.partial(1)
    task.map([1])
    return task(1, two=2)
assert_type(passed_on(fetch, "u"), cs.LazyResult[bytes])
passed_on(fetch, 1)  # E: Argument 2 to "passed_on" has incompatible type "int"; expected "str"
def some(task: cs.Task[[int], str] | cs.Task[[str], str]) -> None:
    task(1)  # E: has incompatible type "int"; expected "str"
""",
    "parameters_of_any_type_leave_the_result_exact": """
@cs.task
def loose(a: Any, b: Any = cs.inject("b")) -> int: ...
assert_type(loose(1), cs.LazyResult[int])
assert_type(cs.run(loose(cs.Param("a"))), int)
""",
    "calls_nested_deeply_are_checked_in_good_time": f"""
@cs.task
def step(n: int, m: list[int] = []) -> int: ...
step({"step(" * 60}1{", [step(1)])" * 60})
step({"step(" * 6}"a"{")" * 6})  # E: Argument 1 to "step" has incompatible type "str"; expected "int"
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_mypy_with_the_plugin_finds_what_is_wrong_and_nothing_else(
    name: str, run_mypy: Callable[..., list[str]]
) -> None:
    program = PROGRAMS[name]
    assert disagreements(program, run_mypy(program)) == []


def test_right_programs_are_right_without_the_plugin(run_mypy: Callable[..., list[str]]) -> None:
    program = """
class Store:
    @cs.task
    async def load(self, key: str) -> int | cs.LazyResult[int]: ...
assert_type(fetch(address(1), count(b"")), cs.LazyResult[bytes])
assert_type(count.map(page=fetch.map(url=["u"])), cs.MappedLazyResult[int])
assert_type(Store().load(address(1)), cs.LazyResult[int])
assert_type(cs.Router(count(b""), {1: count(b""), 2: count(b"")}), cs.Router[int])
assert_type(cs.run(fetch("u")), bytes)
mean([1.0, count(b"")])
fetch.partial(url="u")(times=2)
fetch(1)
"""
    assert disagreements(program, run_mypy(program, plugin=False)) == []


def test_tasks_of_another_module_are_checked_from_a_warm_cache(
    tmp_path: Path, run_mypy: Callable[..., list[str]]
) -> None:
    from mypy import api

    (tmp_path / "library.py").write_text(DECLARATIONS + "largest = cs.task(max)\n")
    (tmp_path / "program.py").write_text("")
    package = Path(cascade.__file__).parents[1]
    settings = f"[mypy]\nplugins = cascade.mypy_plugin\nmypy_path = {package}:{tmp_path}\n"
    (tmp_path / "mypy.ini").write_text(settings + "disable_error_code = empty-body\n")
    command = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    cold, *_ = api.run([*command, str(tmp_path / "library.py")])
    assert "Success" in cold
    (tmp_path / "program.py").write_text(
        "from library import first, largest\nlargest([1]).foo\nfirst(1)\nreveal_type(first(['a']))\n"
    )
    warm, *_ = api.run([*command, str(tmp_path / "program.py")])
    assert '"LazyResult[int]" has no attribute "foo"' in warm
    assert 'Argument 1 to "first" has incompatible type "int"; expected "list[Never]"' in warm
    assert "LazyResult[str]" in warm
