"""Run where only the built wheel is installed, from an empty folder: does what was packaged work alone?"""

from __future__ import annotations

import sys

loaded_at_start = set(sys.modules)

from importlib.metadata import version  # noqa: E402 - what stood there before is none of ours
from pathlib import Path  # noqa: E402

import cascade as cs  # noqa: E402

package = Path(cs.__file__).parent
assert package.is_relative_to(sys.prefix), f"{package} is not what was installed into {sys.prefix}"
assert (package / "py.typed").is_file(), "without py.typed in the wheel, type checkers ignore its annotations"


@cs.task
def number(text: str) -> int:
    return int(text)


@cs.task
def double(value: int) -> int:
    return value * 2


result = cs.run(double(number("21")), log_level="CRITICAL")
assert result == 42, result

foreign = sorted(
    name
    for name in set(sys.modules) - loaded_at_start
    if "site-packages" in (getattr(sys.modules[name], "__file__", None) or "") and name.partition(".")[0] != "cascade"
)
assert not foreign, f"without any extra, a run imported {foreign}"

try:
    cs.cli(double(number("21")))
except ImportError as error:
    message = str(error)
    assert "pip install 'cascade-py[cli]'" in message, f"the error for a missing extra says {message!r}"
else:
    raise AssertionError("cs.cli works without its extra: then what is that for?")

print(f"cascade-py {version('cascade-py')} from its wheel, Python {sys.version.split()[0]}: {result}")
