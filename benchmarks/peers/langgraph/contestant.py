"""LangGraph: a graph of states with an edge that decides whether to go round once more."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from benchmarks.measuring import seconds_per_unit


class State(TypedDict):
    left: int
    done: int


def _turn(state: State) -> State:
    return {"left": state["left"] - 1, "done": state["done"] + 1}


async def _turn_async(state: State) -> State:
    return _turn(state)


def _next(state: State) -> str:
    return "turn" if state["left"] else END


def _graph(turn):
    builder = StateGraph(State)
    builder.add_node("turn", turn)
    builder.add_edge(START, "turn")
    builder.add_conditional_edges("turn", _next)
    return builder.compile()


def loop(turns: int) -> float:
    def do(turns: int) -> int:
        return _graph(_turn).invoke({"left": turns, "done": 0}, {"recursion_limit": turns + 10})["done"]

    return seconds_per_unit(do, turns, int)


def loop_async(turns: int) -> float:
    import asyncio

    async def do(turns: int) -> int:
        ended = await _graph(_turn_async).ainvoke({"left": turns, "done": 0}, {"recursion_limit": turns + 10})
        return ended["done"]

    return seconds_per_unit(lambda turns: asyncio.run(do(turns)), turns, int)
