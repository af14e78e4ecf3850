"""What can be asked of lazy values, and what cannot. (S3, S5)"""

# pyright: reportUnknownVariableType=false
# What a wrong line assigns has no type; the error in the line itself is what is tested.

from __future__ import annotations

from typing import Any, assert_type

import cascade as cs


@cs.task
def number() -> int:
    return 1


@cs.task
def words() -> list[str]:
    return []


@cs.task
def pair() -> tuple[int, str]:
    return 1, ""


@cs.task
def ages() -> dict[str, int]:
    return {}


@cs.task
def length(text: str) -> int:
    return len(text)


def policies() -> None:
    condition = cs.Param("flag", type=bool)
    assert_type(number().run_if(condition), cs.LazyResult[int])
    assert_type(number().after(words(), pair()), cs.LazyResult[int])
    assert_type(number().with_retry(3, delay=0.1, retry_on=(OSError, ValueError)), cs.LazyResult[int])
    assert_type(number().with_retry(retry_on=lambda error: isinstance(error, OSError)), cs.LazyResult[int])
    assert_type(number().with_timeout(1.5).with_constraints(gpu=1, memory=number()), cs.LazyResult[int])
    assert_type(length.map(text=["a"]).named("lengths").run_if(condition), cs.MappedLazyResult[int])
    assert_type(length.with_retry(2).named("long").run_if(condition)("a"), cs.LazyResult[int])
    number().run_if(True)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    number().after(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    number().with_timeout("1s")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    number().with_retry(tries=3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    number().with_cache("disk")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def parts() -> None:
    length(words()[0])
    length(pair()[1])
    length(ages()["a"])  # type: ignore[arg-type]
    length(pair()[0])  # type: ignore[arg-type]
    ages()[1]  # type: ignore[index]
    ages()[words()[number()]]
    count, word = pair().unpack(2)
    length(word)
    length(count)  # type: ignore[arg-type]
    pair().unpack(3)  # type: ignore[misc]
    one, two = words().unpack(2)
    length(one)
    length(two)
    anything: cs.LazyResult[Any] = cs.Param("anything")
    assert_type(anything["a"][0], cs.LazyResult[Any])
    length(anything.unpack(1)[0])


def covariance(value: cs.LazyResult[bool]) -> cs.LazyResult[int | None]:
    return value


# Each of these raises at run time, and says what to do instead.


def truth(value: cs.LazyResult[int]) -> None:
    # mypy has no rule for a condition that cannot be decided; pyright has.
    if value:  # pyright: ignore[reportGeneralTypeIssues]
        print("yes")
    print(not value)  # pyright: ignore[reportGeneralTypeIssues]


def lengths_and_members(value: cs.LazyResult[list[str]]) -> None:
    len(value)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    print("a" in value)  # type: ignore[misc] # pyright: ignore[reportOperatorIssue]
    for item in value:  # type: ignore[misc] # pyright: ignore[reportGeneralTypeIssues]
        del item
    print(*value)  # type: ignore[misc] # pyright: ignore[reportGeneralTypeIssues, reportUnknownArgumentType]
    _, _ = value  # type: ignore[misc] # pyright: ignore[reportGeneralTypeIssues]


def orders_and_sums(value: cs.LazyResult[int]) -> None:
    _ = value < 3  # type: ignore[misc] # pyright: ignore[reportOperatorIssue]
    _ = value >= value  # type: ignore[misc] # pyright: ignore[reportOperatorIssue]
    _ = max(value, value)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    _ = value + 1  # type: ignore[operator] # pyright: ignore[reportOperatorIssue]
    _ = value.real  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def in_place_of_values(value: cs.LazyResult[int]) -> None:
    hex(value)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
