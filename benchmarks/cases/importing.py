"""What `import cascade` adds to a program."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.measuring import check, repeated

_FOREIGN = """
import sys
before = set(sys.modules)
import cascade
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names) - {"cascade"}))
"""


def start() -> float:
    """Start Python and import Cascade, which must bring nothing that is not of the standard library."""
    found = subprocess.run([sys.executable, "-c", _FOREIGN], check=True, capture_output=True, text=True)
    check(found.stdout.split(), [])

    def one() -> int:
        return subprocess.run([sys.executable, "-c", "import cascade"], check=False).returncode

    return repeated(one, 0, warm_up=1, times=5)
