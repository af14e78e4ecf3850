"""What all contestants are given to do: the functions, the shapes of the graphs, and what must come out."""

from __future__ import annotations

import math
import time

CHAIN_SLEEPS = 10
SLOW = 0.04
FAST = 0.01
CORE_SECONDS = 0.5


def increment(x: int) -> int:
    return x + 1


async def increment_async(x: int) -> int:
    return x + 1


def double(x: int) -> int:
    return x + x


async def double_async(x: int) -> int:
    return x + x


def add_three(x: int, y: int, z: int) -> int:
    return (x + y + z) % 1_000_003


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return 1


def sleep_then(before: int, seconds: float) -> int:
    time.sleep(seconds)
    return before + 1


def spin(number: int) -> int:
    """Compute for half a second of this process's own time, so that what else the machine does adds no work."""
    end = time.process_time() + CORE_SECONDS
    while time.process_time() < end:
        math.factorial(200)
    return number


def first_of(shared: list[int], index: int) -> int:
    return shared[0] + index


def sum_of_doubles(size: int) -> int:
    return size * (size - 1)


def layer_inputs(index: int, width: int) -> tuple[int, int, int]:
    """The three nodes of the layer before that a node of a layer takes."""
    return index, (index + 1) % width, (index + 7) % width


def layers_sum(width: int, depth: int) -> int:
    """What the layers give: the first layer is 0, 1, 2, ..., the last one is summed."""
    values = list(range(width))
    for _ in range(depth - 1):
        values = [add_three(*(values[i] for i in layer_inputs(index, width))) for index in range(width)]
    return sum(values)


def slow_turns(chain: int) -> list[float]:
    """How long each step of one of two chains takes: where one is slow the other is fast.

    Each chain alone takes the critical path; stages with a barrier after each would take the slow one of every pair.
    """
    return [SLOW if step % 2 == chain else FAST for step in range(CHAIN_SLEEPS)]


def critical_path() -> float:
    return CHAIN_SLEEPS / 2 * (SLOW + FAST)
