"""The key that signs: made once, known to this user alone, and never accepted when others could know it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from cascade.adapters import serializers
from cascade.runtime.signing_key import SigningKeyError, load_signing_key

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and owners of files are POSIX's")
HEX = "ab" * 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "signing.key"


def write(path, text, mode=0o600):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def refused(path, problem, environment=None):
    with pytest.raises(SigningKeyError, match=problem) as caught:
        load_signing_key(path, environment or {})
    assert isinstance(caught.value, PermissionError)
    assert "64 hexadecimal" in str(caught.value)
    return caught.value


def test_it_is_made_at_its_first_use_and_stays(path):  # S27
    key = load_signing_key(path, {})
    assert len(key) == 32
    assert load_signing_key(path, {}) == key
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert load_signing_key(path.with_name("other"), {}) != key


def test_serializers_hand_it_on():
    assert serializers.load_signing_key is load_signing_key
    assert serializers.SigningKeyError is SigningKeyError


@POSIX
def test_only_its_owner_can_read_it(path):
    load_signing_key(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_variable_comes_before_the_file(path):
    assert load_signing_key(path, {"CASCADE_KEY": f" {HEX}\n"}) == bytes.fromhex(HEX)
    assert not path.exists()


def test_the_content_of_the_file_fits_into_the_variable(path):
    key = load_signing_key(path, {})
    assert load_signing_key("unused", {"CASCADE_KEY": path.read_text()}) == key


@pytest.mark.parametrize("text", ["", "ab" * 31, "secret", "é" * 64])
def test_what_is_no_key_is_refused_and_not_shown(path, text):
    error = refused(path, "CASCADE_KEY", {"CASCADE_KEY": text})
    assert not text or text not in str(error)
    write(path, text)
    assert not text or text not in str(refused(path, "hexadecimal"))


@POSIX
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o666])
def test_a_key_that_others_could_read_or_write_is_refused(path, mode):
    write(path, HEX, mode)
    refused(path, f"has mode {mode:o}")


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give files away")
def test_a_key_or_a_link_of_another_user_is_refused(path):
    write(path, HEX)
    os.chown(path, 12345, 12345)
    refused(path, "belongs to user 12345")
    os.chown(path, 0, 0)
    link = path.with_name("link")
    link.symlink_to(path)
    assert load_signing_key(link, {}) == bytes.fromhex(HEX)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    refused(link, "is a symbolic link of user 12345")


@POSIX
def test_what_is_no_file_is_refused(path):
    path.parent.mkdir()
    os.mkfifo(path, 0o600)
    refused(path, "is no regular file")
    refused(path.parent, "is no regular file")


@POSIX
def test_where_no_file_can_be_made_it_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "key", "cannot be opened|cannot be made")
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "nowhere")
    refused(dangling, "cannot be made")


def test_processes_that_make_it_at_once_get_the_same(path):
    code = (
        "import sys\n"
        "from cascade.runtime.signing_key import load_signing_key\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(load_signing_key(sys.argv[1], {}).hex())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    keys = {process.communicate()[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert keys == {path.read_text()}
