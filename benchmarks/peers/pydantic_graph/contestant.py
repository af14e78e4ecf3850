"""pydantic-graph: nodes that return the next node, which is a loop; steps that map and join."""

import asyncio
from dataclasses import dataclass

from pydantic_graph import GraphBuilder, StepContext, reduce_list_append, reduce_sum

from benchmarks import work
from benchmarks.measuring import seconds_per_unit


def _looping() -> object:
    builder = GraphBuilder(input_type=Counted, output_type=int)

    @builder.step
    async def turn(context: StepContext[None, None, Counted]) -> Counted | Finished:
        counted = context.inputs
        return Finished(counted.done) if counted.left == 0 else Counted(counted.left - 1, counted.done + 1)

    @builder.step
    async def finish(context: StepContext[None, None, Finished]) -> int:
        return context.inputs.done

    builder.add(
        builder.edge_from(builder.start_node).to(turn),
        builder.edge_from(turn).to(
            builder.decision().branch(builder.match(Counted).to(turn)).branch(builder.match(Finished).to(finish))
        ),
        builder.edge_from(finish).to(builder.end_node),
    )
    return builder.build()


@dataclass
class Counted:
    left: int
    done: int


@dataclass
class Finished:
    done: int


def loop_async(turns: int) -> float:
    def do(turns: int) -> int:
        return asyncio.run(_looping().run(inputs=Counted(turns, 0)))

    return seconds_per_unit(do, turns, int)


def fan_out(size: int) -> float:
    """A step for each item, joined by a sum."""

    def do(size: int) -> int:
        builder = GraphBuilder(input_type=list[int], output_type=int)

        @builder.step
        async def double(context: StepContext[None, None, int]) -> int:
            return work.double(context.inputs)

        total = builder.join(reduce_sum, initial=0)
        builder.add(
            builder.edge_from(builder.start_node).map().to(double),
            builder.edge_from(double).to(total),
            builder.edge_from(total).to(builder.end_node),
        )
        return asyncio.run(builder.build().run(inputs=list(range(size))))

    return seconds_per_unit(do, size, work.sum_of_doubles)


def map_items(size: int) -> float:
    def do(items: list[int]) -> list[int]:
        builder = GraphBuilder(input_type=list[int], output_type=list[int])

        @builder.step
        async def double(context: StepContext[None, None, int]) -> int:
            return work.double(context.inputs)

        every = builder.join(reduce_list_append, initial_factory=list[int])
        builder.add(
            builder.edge_from(builder.start_node).map().to(double),
            builder.edge_from(double).to(every),
            builder.edge_from(every).to(builder.end_node),
        )
        # The join has them in the order in which they end.
        return sorted(asyncio.run(builder.build().run(inputs=items)))

    return seconds_per_unit(do, size, lambda size: list(range(0, 2 * size, 2)), prepare=lambda size: list(range(size)))
