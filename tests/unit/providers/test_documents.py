"""Documents that cannot be read tell file, line and column."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from cascade.providers.documents import DocumentError, load_json, load_toml, load_yaml
from cascade.spec.exceptions import MissingExtraError

needs_yaml = pytest.mark.needs_extra("yaml")


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (load_json, '{"a": [1, "ö"]}'),
        (load_toml, 'a = [1, "ö"]'),
        pytest.param(load_yaml, "a: [1, ö]", marks=needs_yaml),
    ],
)
def test_documents_are_read(tmp_path: Path, load: Any, text: str) -> None:
    path = tmp_path / "document"
    path.write_text(text, encoding="utf-8")
    assert load.function(path) == {"a": [1, "ö"]}
    assert load(path).name == load.name
    with pytest.raises(FileNotFoundError):
        load.function(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("load", "text", "line", "column"),
    [
        (load_json, b'{"a":\n 1 2}', 2, 4),
        (load_json, b'{"a":\n "\xff"}', 2, 3),
        (load_json, b"[" * 200_000, None, None),
        (load_toml, b"a = 1\nb = \n", 2, 5),
        (load_toml, b"a = [1", 1, 7),
        (load_toml, b'a = 1\nb = "\xff"', 2, 6),
        pytest.param(load_yaml, b"a: 1\nb: [1\n", 3, 1, marks=needs_yaml),
        pytest.param(load_yaml, b"a: 1\nb: !!python/name:os.system\n", 2, 4, marks=needs_yaml),
        pytest.param(load_yaml, b"a: 1\nb: \xff", 2, 4, marks=needs_yaml),
        pytest.param(load_yaml, b"a: 2024-02-30", None, None, marks=needs_yaml),
    ],
)
def test_errors_tell_where(tmp_path: Path, load: Any, text: bytes, line: int | None, column: int | None) -> None:
    path = tmp_path / "document"
    path.write_bytes(text)
    with pytest.raises(DocumentError) as caught:
        load.function(path)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.path, error.line, error.column) == (str(path), line, column)
    assert f"{path}" + (f", line {line}, column {column}" if line else "") in str(error)


def test_a_missing_extra_is_told_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    for declare in (load_yaml, load_yaml.function):
        with pytest.raises(MissingExtraError, match=r"pip install 'cascade-py\[yaml\]'"):
            declare("x")
