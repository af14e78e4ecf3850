"""What `cs.task` makes of each kind of function. (S6)"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, assert_type

import cascade as cs

T = TypeVar("T")


@cs.task
def plain(url: str, times: int = 1) -> bytes:
    return url.encode() * times


@cs.task
async def asynchronous(url: str) -> bytes:
    return url.encode()


@cs.task(name="fetch", pure=True, retry=3, timeout=1.5, tags=["net"], executor="thread")
def with_options(url: str) -> bytes:
    return url.encode()


@cs.task(retry=cs.Retry(max_attempts=2, delay=0.5))
async def asynchronous_with_options(url: str) -> bytes:
    return url.encode()


@cs.task()
def with_empty_brackets(url: str) -> bytes:
    return url.encode()


assert_type(plain("u"), cs.LazyResult[bytes])
assert_type(asynchronous("u"), cs.LazyResult[bytes])
assert_type(with_options("u"), cs.LazyResult[bytes])
assert_type(asynchronous_with_options("u"), cs.LazyResult[bytes])
assert_type(with_empty_brackets("u"), cs.LazyResult[bytes])
assert_type(plain.name, str)
assert_type(plain.is_async, bool)

by_parameters: cs.Task[[str, int], bytes] = plain
wrong_result: cs.Task[[str, int], str] = plain  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]
wrong_parameters: cs.Task[[int], bytes] = plain  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


# S18: what a task returns in the end is what its call stands for.


@cs.task
def maybe_lazy(n: int) -> int | cs.LazyResult[int]:
    return maybe_lazy(n - 1) if n else 0


@cs.task
def always_lazy(n: int) -> cs.LazyResult[int]:
    return maybe_lazy(n)


@cs.task
async def asynchronous_maybe_lazy(n: int) -> int | cs.LazyResult[int]:
    return maybe_lazy(n)


@cs.task(name="lazy")
async def asynchronous_always_lazy(n: int) -> cs.LazyResult[int]:
    return maybe_lazy(n)


@cs.task
def optional(n: int) -> str | None:
    return str(n) if n else None


@cs.task
def nothing(n: int) -> None:
    del n


@cs.task
def anything(value: Any) -> Any:
    return value


assert_type(maybe_lazy(3), cs.LazyResult[int])
assert_type(always_lazy(3), cs.LazyResult[int])
assert_type(asynchronous_maybe_lazy(3), cs.LazyResult[int])
assert_type(asynchronous_always_lazy(3), cs.LazyResult[int])
assert_type(optional(3), cs.LazyResult[str | None])
assert_type(nothing(3), cs.LazyResult[None])
assert_type(anything(3), cs.LazyResult[Any])


# Generic functions keep their type variables.


@cs.task
def first(items: list[T]) -> T:
    return items[0]


@cs.task(pure=True)
async def keyed(key: str, value: T) -> dict[str, T]:
    return {key: value}


assert_type(first([1, 2]), cs.LazyResult[int])
assert_type(keyed("a", b""), cs.LazyResult[dict[str, bytes]])


class Store:
    @cs.task
    def load(self, key: str, *, default: int = 0) -> int:
        return default

    @cs.task(name="save")
    async def save(self, key: str) -> bool:
        return True


store = Store()
assert_type(store.load("k"), cs.LazyResult[int])
assert_type(store.load("k", default=1), cs.LazyResult[int])
assert_type(store.save("k"), cs.LazyResult[bool])
assert_type(Store.load(store, "k"), cs.LazyResult[int])
bound: cs.Task[[str], bool] = store.save
unbound: cs.Task[[Store, str], bool] = Store.save


# Lambdas, builtins, classes, bound methods and partials.

answer: Callable[[], int] = lambda: 42  # noqa: E731 - a lambda is what is tested
assert_type(cs.task(answer)(), cs.LazyResult[int])
assert_type(cs.task(lambda: "text")(), cs.LazyResult[str])
assert_type(cs.task(len)([1]), cs.LazyResult[int])
assert_type(cs.task(sum)([1, 2], 3), cs.LazyResult[int])
assert_type(cs.task(sorted)([2, 1], reverse=True), cs.LazyResult[list[int]])
assert_type(cs.task(str.upper)("a"), cs.LazyResult[str])
assert_type(cs.task("a".encode)("utf8"), cs.LazyResult[bytes])
assert_type(cs.task(Store)(), cs.LazyResult[Store])
assert_type(cs.task(functools.partial(plain.function, times=2))("u"), cs.LazyResult[Any])


def read(path: str, encoding: str) -> str:
    return path + encoding


assert_type(cs.task(functools.partial(read, encoding="utf8"))("p"), cs.LazyResult[str])


# Wrappers can pass parameters on.


def twice(task: cs.Task[[T], T]) -> Callable[[T], cs.LazyResult[T]]:
    return lambda value: task(task(value))


@cs.task
def double(x: int) -> int:
    return 2 * x


assert_type(twice(double)(3), cs.LazyResult[int])


# Wrong declarations.


def sends(url: str) -> Awaitable[bytes]:
    raise NotImplementedError(url)


cs.task(plain.function, nmae="fetch")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
cs.task(3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
cs.task(len, timeout="1s")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
# An awaitable that is no coroutine is a value like any other: the run refuses it.
assert_type(cs.task(sends)("u"), cs.LazyResult[Awaitable[bytes]])
