"""A census of Python source: count what is in a tree of files, and make a page of it.

    python census.py                       the standard library of this Python
    python census.py --root ../my-project  any other tree
    python census.py --help

Read it from `census` at the end: that function is the whole workflow. The other files are plain Python:
`sources.py` finds and reads files, `survey.py` counts what is in one, `store.py` keeps the rows, `report.py` and
`charts.py` make what people look at.
"""

from __future__ import annotations

import sysconfig
import tempfile
import time
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, TypedDict

import survey
from report import Page, Reuse, make_page, terminal_table, with_pictures
from sources import Listing, UnreadableFileError, UnsteadyFileError, list_sources, read_source, shown
from store import Store, Summary, store

import cascade as cs

READ_ATTEMPTS = 4


class Output(TypedDict):
    """Where results go, and when this census began."""

    report: Path
    database: Path
    cache: Path
    taken_at: str
    started: float


@cs.task
def open_output(folder: Path, cache: Path | None) -> Output:
    """Make the folders, and find out now and not after all the work whether they can be written."""
    cache = cache or folder / "cache"
    for option, place in (("--out", folder), ("--cache", cache)):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            raise cs.ParameterError(f"{option}: cannot write to {shown(place)}: {error.strerror}") from None
    return {
        "report": folder / "index.html",
        "database": folder / "census.sqlite",
        "cache": cache,
        "taken_at": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
        "started": time.monotonic(),
    }


class CountingBackend:
    """A folder of surveys that counts what was asked of it: any object with these three methods is a backend."""

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        self._folder = cs.DirectoryCacheBackend(folder, max_bytes=256 * 2**20)
        self._fresh = fresh
        self._made: set[str] = set()
        self._earlier = self._twins = 0
        self._saved = 0.0

    async def get(self, key: str) -> Any:
        is_twin = key in self._made
        if self._fresh and not is_twin:
            raise KeyError(key)
        counted: survey.Survey = await self._folder.get(key)
        self._twins += is_twin
        self._earlier += not is_twin
        self._saved += counted.seconds
        return counted

    async def put(self, key: str, value: Any, *, ttl: float | None = None) -> None:
        await self._folder.put(key, value, ttl=ttl)
        self._made.add(key)

    async def discard(self, key: str) -> None:
        await self._folder.discard(key)

    def reuse(self) -> Reuse:
        return Reuse(len(self._made), self._earlier, self._twins, self._saved)


@cs.task
def open_cache(folder: Path, reuse: bool) -> cs.InputsCache:
    """What surveys are remembered by: the content of the file, and the code that surveys."""
    counting_code = Path(survey.__file__).read_bytes()
    return cs.InputsCache(CountingBackend(folder, fresh=not reuse), version=counting_code)


find = cs.task(list_sources, name="find")
paths_of = cs.task(attrgetter("paths"), name="paths_of")


@cs.task
def open_store(path: Path, listing: Listing, taken_at: str, store: Store = cs.inject(store)) -> None:
    store.begin(path, listing, taken_at)


@cs.task(retry=cs.Retry(READ_ATTEMPTS, delay=0.05, backoff=3, retry_on=UnsteadyFileError))
def read(path: Path) -> tuple[bytes, str]:
    """The content of a file, or nothing and the reason why.

    A file that somebody is writing is read again a little later. One that cannot be had is for the report to
    list: a census does not fail because of it.
    """
    try:
        return read_source(path), ""
    except UnreadableFileError as error:
        return b"", str(error)
    except UnsteadyFileError as error:
        if cs.attempt() < READ_ATTEMPTS:
            raise
        return b"", f"{error}, {READ_ATTEMPTS} times"


@cs.task(executor="inline")
def kind_of(content: bytes, problem: str, heavy: int) -> str:
    if problem:
        return "unread"
    if not content:
        return "empty"
    return "heavy" if len(content) >= heavy * 1024 else "light"


# One at a time in this process: Python parses on one thread anyway, more threads would only hold more syntax
# trees in memory, and until 3.11.8 and 3.12.2 two threads that call `ast.parse` at once can disturb each other.
light_survey = cs.task(survey.survey, name="survey", constraints={"parser": 1})
heavy_survey = cs.task(survey.survey, name="survey-apart", executor="process")


@cs.task
def keep(
    path: str, kind: str, content: bytes, problem: str, counted: survey.Survey, store: Store = cs.inject(store)
) -> None:
    store.add(path, kind, content, survey.Survey(problem=problem) if problem else counted)


@cs.task
def examine(path: str, listing: Listing, cache: cs.InputsCache, heavy: int) -> cs.LazyResult[None]:
    """The work on one file, as a graph of its own.

    Only one of the surveys is made: light files on a thread, and heavy ones in other processes, so that
    parsing uses all cores.
    """
    content, problem = read(listing.root / path).unpack(2)
    kind = kind_of(content, problem, heavy)
    counted = cs.Router(
        kind,
        {
            "unread": survey.EMPTY,
            "empty": survey.EMPTY,
            "light": light_survey(content).with_cache(cache),
            "heavy": heavy_survey(content).with_cache(cache),
        },
    )
    return keep(path, kind, content, problem, counted)


@cs.task
def summarize(store: Store = cs.inject(store)) -> Summary:
    return store.summary()


@cs.task
def lay_out(listing: Listing, summary: Summary, cache: cs.InputsCache, output: Output) -> Page:
    assert isinstance(cache.backend, CountingBackend)
    seconds = time.monotonic() - output["started"]
    return make_page(listing, summary, cache.backend.reuse(), output["taken_at"], seconds)


draw = cs.task(with_pictures, name="draw")


@cs.task
def tell(page: Page, output: Output) -> str:
    seconds = time.monotonic() - output["started"]
    return f"{terminal_table(page, output['report'], output['database'])}\ntook    {seconds:.1f} s"


def census() -> cs.LazyResult[str]:
    """Count the functions, classes, docstrings and imports in a tree of Python files, and make a page of it.

    By default that is the standard library of the Python that runs this. What was counted is remembered by the
    content of the files, so that the next census has to parse only what has changed.
    """
    root = cs.Param("root", default=Path(sysconfig.get_path("stdlib")), description="the folder with the files")
    folder = cs.Param("out", default=Path("census-report"), description="the folder for the page and the database")
    cache_folder = cs.Param(
        "cache", default=None, type=Path, description="the folder for what is remembered [default: OUT/cache]"
    )
    reuse = cs.Param("reuse", default=True, description="use what earlier censuses remembered")
    heavy = cs.Param(
        "heavy", default=4, description="files from this size on, in KiB, are parsed in processes of their own"
    )
    plot = cs.Param("plot", default=True, description="draw the pictures")

    listing = find(root)
    # After `find`: nothing is made for a census of a folder that is not there.
    output = open_output(folder, cache_folder).after(listing)
    cache = open_cache(output["cache"], reuse)
    opened = open_store(output["database"], listing, output["taken_at"])

    examined = examine.partial(listing=listing, cache=cache, heavy=heavy).map(path=paths_of(listing)).after(opened)
    summary = summarize().after(examined)
    page = cs.pipeline(lay_out(listing, summary, cache, output), [draw.run_if(plot)])

    filled = cs.template_file(Path(__file__).with_name("template.html"), page=page)
    written = cs.write(output["report"], filled)
    return tell(page, output).after(written)


program = cs.cli(census, system_resources={"parser": 1})

if __name__ == "__main__":
    program()
