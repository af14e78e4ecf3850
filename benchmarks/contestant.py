"""One measurement in a fresh process: `python -m benchmarks.contestant MODULE FUNCTION ARGUMENTS-AS-JSON`.

Prints one JSON object: `{"value": ...}`, or `{"unfit": reason}`, or `{"error": type, "message": ...}`.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from benchmarks.measuring import UnfitError


def main(module: str, function: str, arguments: str) -> None:
    # What the contestants themselves print goes to stderr, so that stdout carries the answer alone.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    try:
        answer: dict[str, float | str] = {
            "value": float(getattr(import_module(module), function)(**json.loads(arguments)))
        }
    except UnfitError as error:
        answer = {"unfit": str(error)}
    except BaseException as error:
        answer = {"error": type(error).__name__, "message": str(error)[:500]}
    os.write(answer_to, json.dumps(answer).encode())
    os.close(answer_to)
    # Servers and threads that a contestant left behind are none of our business; nothing is to be saved.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
