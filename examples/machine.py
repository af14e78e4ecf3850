"""A page about this machine: commands, files and a template, in one graph.

    python machine.py
    python machine.py --folder /var/log --out machine.md

Commands run at the same time. Values are put into them as single words, so that a folder may be called
`$(reboot)`; a command that fails tells its exit code and the end of what it wrote.
"""

from __future__ import annotations

from pathlib import Path

import cascade as cs

PAGE = """\
# {{ system }}

Python: {{ python }}. Shell of {{ user }}: {{ shell }}.

## {{ folder }}

{{ files }} files; the largest:

{% for line in largest -%}
- {{ line }}
{% endfor %}
The file system, as `df` sees it:

{% for line in disk %}    {{ line }}
{% endfor %}"""


@cs.task
def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def machine() -> cs.LazyResult[str]:
    """Write a page about this machine and one of its folders."""
    folder = cs.Param("folder", default=Path(), description="the folder to look into")
    out = cs.Param("out", default=Path("machine.md"), description="the page")

    files = cs.shell("find -- {folder} -xdev -type f | wc -l", folder=folder)
    largest = cs.shell(
        "find -- {folder} -xdev -type f -exec du -k -- {{}} + | sort -rn | head -n 5",
        folder=folder,
    )
    page = cs.template(
        PAGE,
        system=cs.shell(["uname", "-srm"])["text"],
        python=cs.shell("command -v python3 || echo none")["text"],
        user=cs.Env("USER", default="nobody in particular"),
        shell=cs.Env("SHELL", default="unknown"),
        folder=folder,
        files=files["text"],
        largest=lines_of(largest["text"]),
        disk=lines_of(cs.shell(["df", "-Pk", folder], timeout=10)["text"]),
    )
    return cs.format("{}\nwritten to {}", page, cs.write(out, page))


program = cs.cli(machine)

if __name__ == "__main__":
    program()
