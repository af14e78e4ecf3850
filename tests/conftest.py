"""What all tests share: how Hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# How many random workflows the property tests make; the models of limits and of capacities take a share of that
# many schedules, and other properties Hypothesis's usual 100 at most.
RANDOM_WORKFLOWS = int(os.environ.get("CASCADE_RANDOM_WORKFLOWS", "1000"))

# In CI Hypothesis's own "ci" profile repeats the same examples, so that a red run is red again when repeated.
settings.register_profile(
    "cascade",
    parent=settings.get_profile("ci" if os.environ.get("CI") else "default"),
    deadline=None,
    print_blob=True,
    max_examples=min(100, RANDOM_WORKFLOWS),
)
settings.load_profile("cascade")
