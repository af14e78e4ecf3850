"""Downloads from a server that is not at its best: limits, retries, timeouts, and going on after failures.

    python downloads.py

The server is a real one, on this machine, so that the example needs no network: it breaks every third page's
first answer, and has lost one page for good.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cascade as cs

PAGES = 24
LOST = 13
CONNECTIONS = 4


class Server(ThreadingHTTPServer):
    """Serves numbered pages, and notes how it was treated."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: Counter[int] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


class Page(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        number = int(self.path.strip("/"))
        with server.lock:
            server.asked[number] += 1
            attempt = server.asked[number]
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            if number == LOST:
                self.send_error(HTTPStatus.NOT_FOUND)
            elif number % 3 == 0 and attempt == 1:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                self.send_response(HTTPStatus.OK)
                self.end_headers()
        finally:
            # Before the page: who has all of it may ask for the next one at once.
            with server.lock:
                server.at_once -= 1
        if number != LOST and not (number % 3 == 0 and attempt == 1):
            self.wfile.write(b"word " * number)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the workflow's."""


@cs.resource
def server() -> Iterator[Server]:
    """Started when the first download asks for it, and stopped when the run is over, whatever happened."""
    started = Server()
    thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield started
    started.shutdown()
    thread.join()
    started.server_close()
    print(f"served {started.asked.total()} requests, at most {started.most_at_once} at once")


def is_worth_another_try(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, OSError)


@cs.task
def download(number: int, server: Server = cs.inject(server)) -> int:
    """The number of words on a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{number}", timeout=10) as page:
            return len(page.read().split())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def main() -> None:
    polite = download.with_retry(
        max_attempts=4, delay=0.02, backoff=2, jitter=0.5, retry_on=is_worth_another_try
    ).with_constraints(connection=1)
    pages = [polite(number).named(f"page {number}") for number in range(PAGES)]
    try:
        # One page that is lost must not cost the others: all that can be done is done.
        cs.run(pages, system_resources={"connection": CONNECTIONS}, on_failure="continue")
    except cs.RunFailedGroup as failed:
        words = [failed.results[page] for page in pages if page in failed.results]
        print(f"{len(words)} of {PAGES} pages, {sum(words)} words")
        for error in failed.exceptions:
            print(f"lost: {error}, {error.__notes__[0]}")


if __name__ == "__main__":
    main()
