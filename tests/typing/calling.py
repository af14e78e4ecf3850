"""What a task, its partials and its maps are called with. (S1, S4, S17)

pyright accepts any arguments, since it must accept lazy ones; for mypy the plugin refuses wrong ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import ParamSpec, TypeVar, assert_type

import cascade as cs

P = ParamSpec("P")
T = TypeVar("T")


@cs.task
def fetch(url: str, times: int = 1) -> bytes:
    return url.encode() * times


@cs.task
def count(page: bytes) -> int:
    return len(page)


@cs.task
def address(n: int) -> str:
    return str(n)


@cs.task
def addresses() -> list[str]:
    return []


@cs.task
def mean(values: list[float], *more: float, digits: int = 2, **notes: str) -> float:
    return sum(values)


@cs.task
def save(text: str | None, /, path: Path | str, database: object = cs.inject("database")) -> None:
    del text, path, database


@cs.task
def first(items: list[T]) -> T:
    return items[0]


def values_and_lazy_values(given: bool) -> None:
    fetch("u")
    fetch(url="u", times=2)
    fetch(address(1), count(b""))
    fetch(url=address(1), times=count(b""))
    fetch(first(["u"]))
    fetch("u" if given else address(1))
    fetch(cs.Param("url", type=str), times=cs.Param("times", default=1))
    count(fetch("u").with_retry(3).run_if(cs.Param("online", type=bool)))
    save(None, "p")
    save(address(1), Path("p"))
    save(cs.Param("text", default=None, type=str), path=address(1))
    save("text", "p", database=cs.inject("other"))
    assert_type(fetch(address(1)), cs.LazyResult[bytes])


def containers_of_lazy_values() -> None:
    mean([1.0, 2, count(b"")])
    mean([count(b"") for _ in range(3)])
    mean(first([[1.0]]), 3, count(b""), *[1, count(b"")], digits=count(b""), author=address(1))
    mean([*[1.0, 2.0], count(b"")])
    cs.task(sum)([count(b""), count(b"")])
    cs.task(sum)(count.map(page=[b""]))
    cs.task(dict)([("a", count(b""))])
    lazies = {"a": [count(b"")], "b": [1]}
    cs.task(len)(lazies)


def wrong_names_and_numbers() -> None:
    fetch()  # type: ignore[call-arg]
    fetch("u", 1, 2)  # type: ignore[call-arg]
    fetch("u", time=3)  # type: ignore[call-arg]
    fetch("u", url="u")  # type: ignore[misc]
    save(text="text", path="p")  # type: ignore[call-arg]
    mean([1.0], 2.0, 3.0, values=[1.0])  # type: ignore[misc]


def wrong_types(given: bool) -> None:
    fetch(3)  # type: ignore[arg-type]
    fetch(count(b""))  # type: ignore[arg-type]
    fetch("u", address(1))  # type: ignore[arg-type]
    count(cs.Param("n", type=int))  # type: ignore[arg-type]
    fetch(addresses())  # type: ignore[arg-type]
    fetch([address(1)])  # type: ignore[arg-type]
    fetch("u" if given else count(b""))  # type: ignore[arg-type]
    save(address(1), count(b""))  # type: ignore[arg-type]
    mean([address(1)])  # type: ignore[list-item]
    mean(count(b""))  # type: ignore[arg-type]
    mean([1.0], address(1))  # type: ignore[arg-type]
    mean([1.0], *[address(1)])  # type: ignore[arg-type]
    mean([1.0], author=count(b""))  # type: ignore[arg-type]
    fetch(first([3]))  # type: ignore[arg-type]
    fetch.with_retry(2)(3)  # type: ignore[arg-type]


def partials() -> None:
    assert_type(fetch.partial("u")(times=2), cs.LazyResult[bytes])
    assert_type(fetch.partial(address(1)).with_timeout(3)(), cs.LazyResult[bytes])
    assert_type(fetch.partial(times=2).map(url=["u"]), cs.MappedLazyResult[bytes])
    fetch.partial(url="u")(times=2)
    fetch.partial(3)  # type: ignore[arg-type]
    fetch.partial(time=3)  # type: ignore[call-arg]
    fetch.partial("u")("u", 1)  # type: ignore[call-arg,arg-type]
    fetch.partial(times=2)(3)  # type: ignore[arg-type]
    fetch.partial(url="u")(times="2")  # type: ignore[arg-type]


def maps() -> None:
    assert_type(fetch.map(url=["u", address(1)]), cs.MappedLazyResult[bytes])
    assert_type(fetch.map(addresses(), times=range(3)), cs.MappedLazyResult[bytes])
    assert_type(count.map(page=fetch.map(url=addresses())).with_retry(2), cs.MappedLazyResult[int])
    assert_type(cs.task(len).map(obj=[[1], [2]]), cs.MappedLazyResult[int])
    lengths: cs.LazyResult[list[int]] = count.map(page=(fetch(str(n)) for n in range(3)))
    cs.task(max)(lengths)
    fetch.map(url=3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    fetch.map(url=address(1), times=count(b""))  # type: ignore[arg-type]
    fetch.map(url=[1, 2])  # type: ignore[list-item]
    fetch.map(url=count.map(page=[b""]))  # type: ignore[arg-type]
    fetch.map(link=["u"])  # type: ignore[call-arg]
    fetch.map(times=[1, 2])  # type: ignore[call-arg]


class Store:
    @cs.task
    def load(self, key: str, default: int = 0) -> int:
        return default


def methods() -> None:
    Store().load(address(1), default=count(b""))
    Store.load(Store(), "k")
    Store().load(3)  # type: ignore[arg-type]
    Store().load("k", 1, 2)  # type: ignore[call-arg]


def unions_of_tasks(task: cs.Task[[int], str] | cs.Task[[str], str]) -> None:
    task(count(b""))  # type: ignore[arg-type]


def parameters_passed_on(task: cs.Task[P, T], *args: P.args, **kwargs: P.kwargs) -> cs.LazyResult[T]:
    return task(*args, **kwargs)


def any_parameters(task: cs.Task[..., T]) -> cs.LazyResult[T]:
    return task(1, two=2)


assert_type(parameters_passed_on(fetch, "u"), cs.LazyResult[bytes])
assert_type(any_parameters(fetch), cs.LazyResult[bytes])
