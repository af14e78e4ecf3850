"""Where what waits was made: messages name the user's line, and not the engine's."""

from __future__ import annotations

import datetime as dt

import cascade as cs


def test_what_waits_is_made_on_the_line_of_who_calls_it() -> None:  # S28
    made = [
        cs.wait_for_signal("approved", str),
        cs.sleep_until(dt.datetime(2000, 1, 1, tzinfo=dt.UTC)),
        cs.wait_for_signal("approved").named("approval"),
    ]
    first = test_what_waits_is_made_on_the_line_of_who_calls_it.__code__.co_firstlineno
    assert [lazy.origin for lazy in made] == [(__file__, first + line) for line in (2, 3, 4)]
