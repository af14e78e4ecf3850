"""An agent: decide, use a tool, look at what came of it, and decide again, until there is an answer.

    python agent.py
    python agent.py --question "How many times wider is Jupiter than Mars?" --turns 3

The loop is a task that returns its own next turn. That is no recursion: it runs in constant memory, however
many turns there are, and each turn's tools have their own retries and timeouts. Put a call of a language model
in the place of `decide`, and the rest stays.
"""

from __future__ import annotations

import ast
import re
from typing import TypedDict

import cascade as cs

WIDTH_IN_KM = {"mercury": 4_879, "venus": 12_104, "earth": 12_742, "mars": 6_779, "jupiter": 139_820}


class Action(TypedDict):
    """What the agent wants to do next: `look_up` a planet, `calculate` a quotient, or `answer`."""

    tool: str
    input: str


@cs.task
async def decide(question: str, findings: dict[str, str]) -> Action:
    """A stand-in for a language model: it knows what it does not know yet."""
    planets = [word for word in re.findall(r"[a-z]+", question.lower()) if word in WIDTH_IN_KM]
    for planet in planets:
        if planet not in findings:
            return {"tool": "look_up", "input": planet}
    if len(planets) != 2:
        return {"tool": "answer", "input": "I can compare the widths of two planets."}
    quotient = " / ".join(findings[planet] for planet in planets)
    if quotient not in findings:
        return {"tool": "calculate", "input": quotient}
    return {"tool": "answer", "input": f"{float(findings[quotient]):.1f} times"}


@cs.task
def look_up(planet: str) -> str:
    """The first attempt finds the line busy, as it would be now and then in a network."""
    if cs.attempt() == 1:
        raise ConnectionError("the encyclopedia is busy")
    return str(WIDTH_IN_KM[planet])


@cs.task
def calculate(expression: str) -> str:
    match ast.parse(expression, mode="eval").body:
        case ast.BinOp(ast.Constant(int(left)), ast.Div(), ast.Constant(int(right))):
            return str(left / right)
        case _:
            raise ValueError(f"expected a quotient of two numbers, got {expression!r}")


@cs.task
def take_turn(question: str, turns: int, findings: dict[str, str]) -> cs.LazyResult[str]:
    """One turn as a graph: of the tools only the one runs that was chosen."""
    action = decide(question, findings).with_timeout(30)
    wanted = action["input"]
    found = cs.Router(
        action["tool"],
        {
            "look_up": look_up(wanted).with_retry(max_attempts=3, delay=0.01, retry_on=ConnectionError),
            "calculate": calculate(wanted),
            "answer": wanted,
        },
    )
    return go_on(question, turns, findings, action, found)


@cs.task
def go_on(question: str, turns: int, findings: dict[str, str], action: Action, found: str) -> str | cs.LazyResult[str]:
    if action["tool"] == "answer":
        return f"{found}, because {_told(findings)}"
    if turns <= 1:
        return f"no answer within the turns allowed; so far {_told(findings)}"
    return take_turn(question, turns - 1, {**findings, action["input"]: found})


def _told(findings: dict[str, str]) -> str:
    return ", ".join(f"{asked} is {found}" for asked, found in findings.items()) or "nothing was found"


def agent() -> cs.LazyResult[str]:
    """Answer a question by looking things up and calculating."""
    question = cs.Param(
        "question", default="How many times wider is Jupiter than Earth?", description="about two planets"
    )
    turns = cs.Param("turns", default=8, description="how many turns the agent may take")
    return take_turn(question, turns, {})


program = cs.cli(agent)

if __name__ == "__main__":
    program()
