"""Which calls a constraint's scope means."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, NamedTuple

from cascade.spec.constraint import split_scope

if TYPE_CHECKING:
    from collections.abc import Callable


class Subject(NamedTuple):
    """What constraints may know of a call.

    Attributes:
        task_name: the name of its task.
        run_id: the run that it belongs to.
        tags: the tags of its task.
        outer_runs: the runs whose calls have started that run, and wait for it.
    """

    task_name: str
    run_id: str = ""
    tags: tuple[str, ...] = ()
    outer_runs: tuple[str, ...] = ()


def matcher(scope: str) -> Callable[[Subject], bool]:
    """The question whether a call is within a scope.

    Globs match whole names, with case, by `*`, `?` and `[...]`.

    Raises:
        DeclarationError: it is no scope.

    >>> within = matcher("task:fetch*")
    >>> within(Subject("fetch_page")), within(Subject("count"))
    (True, False)
    """
    kind, pattern = split_scope(scope)
    if kind == "global":
        return lambda subject: True
    if kind == "run":
        return lambda subject: subject.run_id == pattern or pattern in subject.outer_runs
    glob = re.compile(fnmatch.translate(pattern)).match
    if kind == "task":
        return lambda subject: glob(subject.task_name) is not None
    return lambda subject: any(glob(tag) for tag in subject.tags)
