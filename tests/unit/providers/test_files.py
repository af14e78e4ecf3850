"""Files are read as they stand, and written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from cascade.providers.files import read, write
from cascade.spec.context import CallContext, current_call
from cascade.spec.exceptions import DeclarationError, RunCancelledError


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "notes.txt"
    assert write.function(path, "one\r\ntwö\n") == path
    assert read.function(path) == "one\r\ntwö\n"
    assert read.function(str(path), encoding=None) == "one\r\ntwö\n".encode()
    write.function(path, "ö", encoding="latin-1")
    assert path.read_bytes() == b"\xf6"
    with pytest.raises(UnicodeDecodeError) as caught:
        read.function(path)
    assert "notes.txt" in caught.value.__notes__[0]


def test_they_are_tasks_like_any_other() -> None:  # S3
    assert read.map(path=["a", "b"]).name == "read"
    assert write.partial(content=read("a"))("b").name == "write"


def test_missing_folders_are_made_unless_told_otherwise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write.function(tmp_path / "no" / "x", "text", make_parents=False)
    assert not (tmp_path / "no").exists()


def test_permissions_stay_and_new_files_get_the_usual_ones(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old")
    secret.chmod(0o600)
    write.function(secret, "new")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    (tmp_path / "usual").write_text("")
    write.function(tmp_path / "written", "")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_protected_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "protected"
    path.write_text("old")
    path.chmod(0o400)
    with pytest.raises(PermissionError):
        write.function(path, "new")
    assert path.read_text() == "old"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    (tmp_path / "dangling").symlink_to("made")
    write.function(link, "new")
    write.function(tmp_path / "dangling", "fresh")
    assert link.is_symlink()
    assert ((tmp_path / "real").read_text(), (tmp_path / "made").read_text()) == ("new", "fresh")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        write.function(tmp_path / "loop", "x")
    assert (tmp_path / "loop").is_symlink()


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(pipe.read_bytes()))
    reader.start()
    write.function(pipe, "through")
    reader.join()
    assert seen == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with pytest.raises(IsADirectoryError):
        write.function(tmp_path, "x")


@pytest.mark.parametrize("step", ["fsync", "fchmod"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write.function(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_call_that_was_given_up_does_not_write_any_more(tmp_path: Path) -> None:  # S20
    path = tmp_path / "file"
    path.write_text("old")
    token = current_call.set(CallContext("run", "node", "write", 1, lambda: True))
    try:
        with pytest.raises(RunCancelledError, match="as it was"):
            write.function(path, "late")
    finally:
        current_call.reset(token)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_content_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = {"a" * 100_000, "b" * 100_000}
    for content in contents:
        write.function(path, content)
    done = threading.Event()
    seen: set[str] = set()

    def watch() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for content in list(contents) * 20:
        write.function(path, content)
    done.set()
    watcher.join()
    assert seen <= contents


def test_only_text_and_bytes_are_written(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="got dict"):
        write.function(tmp_path / "x", {"a": 1})
    assert not (tmp_path / "x").exists()
