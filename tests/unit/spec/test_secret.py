"""Secrets are shown as `***`, wherever their value turns up."""

from __future__ import annotations

import copy
import gc
import io
import json
import pickle
import threading
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade as cs
from cascade.adapters.serializers import SignedSerializer
from cascade.adapters.telemetry import JsonLines
from cascade.adapters.telemetry.sentences import sentence
from cascade.runtime import events
from cascade.runtime.preview import describe_error, mask_error, preview
from cascade.spec import secret as module
from cascade.spec.kinds import Misfit
from cascade.spec.secret import FORMS, is_within, mask, masked

TOKEN = "swordfish/& 7"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """What one test makes a secret is none in the next."""
    monkeypatch.setattr(module, "_known", module._Known())
    before = FORMS[:]
    FORMS.clear()
    yield
    FORMS[:] = before


def test_a_secret_shows_itself_in_no_way():
    secret = cs.Secret(TOKEN)
    assert repr(secret) == "Secret('***')"
    assert str(secret) == f"{secret}" == "***"
    assert f"{secret:>5}" == "  ***"
    assert secret.reveal() == TOKEN


def test_equal_secrets_are_equal_and_copies_are_the_same():
    secret = cs.Secret(TOKEN)
    assert secret == cs.Secret(TOKEN) != cs.Secret("other")
    assert hash(secret) == hash(cs.Secret(TOKEN))
    assert secret != TOKEN
    assert copy.deepcopy(secret) is copy.copy(secret) is secret


def test_only_text_is_a_secret():  # S30
    with pytest.raises(cs.DeclarationError, match="got a value of type int") as raised:
        cs.Secret(271828)  # type: ignore[arg-type]
    assert "271828" not in str(raised.value)


def test_without_secrets_texts_stay_the_same_objects():
    text = "some text"
    assert mask(text) is text
    cs.Secret("unrelated")
    assert mask(text) is text


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"Bearer {TOKEN}!",
        repr(TOKEN + "\n"),
        json.dumps({"token": TOKEN}),
        "https://me:swordfish%2F%26%207@host/",
        "https://host/?q=swordfish%2F%26+7",
        f"{TOKEN}{TOKEN}",
    ],
)
def test_a_secret_is_found_however_it_is_written(text):
    cs.Secret(TOKEN)
    assert "sword" not in mask(text)
    assert "***" in mask(text)


def test_secrets_that_overlap_go_whole():
    cs.Secret("abcdef")
    cs.Secret("defghi")
    cs.Secret("abcdefgh")
    assert mask("x abcdefghi y abcdef z defghi") == "x *** y *** z ***"
    cs.Secret("aaaa")
    assert mask("aaaaaaa b") == "*** b"


def test_the_lines_of_a_secret_are_secrets():
    cs.Secret("-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nshort\n-----END KEY-----\n")
    assert mask("it says MIIEowIBAAKCAQEA") == "it says ***"
    assert mask("a short line") == "a short line"


def test_what_is_too_short_is_masked_as_an_object_only():
    secret = cs.Secret("abc")
    assert mask("abcdef") == "abcdef"
    assert preview({"key": secret}) == "{'key': Secret('***')}"


def test_secrets_are_forgotten_only_when_nobody_has_them():
    kept = [cs.Secret(f"kept-{number:05}") for number in range(1500)]
    for number in range(3000):
        cs.Secret(f"lost-{number:05}")
    gc.collect()
    assert all(mask(secret.reveal()) == "***" for secret in kept)
    assert mask("lost-02999") == "***"
    assert len(module._known) < 4 * module._MOST_UNUSED


def test_secrets_may_be_made_and_masked_by_several_threads():
    wrong = []

    def work(name):
        for number in range(300):
            value = f"{name}-{number:04}"
            cs.Secret(value)
            if mask(f"<{value}>") != "<***>":
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(f"thread{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@given(st.text(min_size=4, max_size=8), st.text(max_size=20), st.text(max_size=20))
def test_no_text_around_a_secret_hides_it(value, before, after):
    FORMS.clear()
    module._known = module._Known()
    cs.Secret(value)
    assert value not in mask(before + value + after).replace("***", "\0")


def test_plain_data_is_masked_at_any_depth_and_the_rest_is_left():
    cs.Secret(TOKEN)
    thing = object()
    given = {"a": [TOKEN, 1, (f"x{TOKEN}",)], TOKEN: thing}
    assert masked(given) == {"a": ["***", 1, ("x***",)], "***": thing}


# Previews and errors.


def test_a_preview_masks_before_it_cuts():  # S28
    cs.Secret("0123456789" * 4)
    text = "x" * 70 + "0123456789" * 4 + "y" * 70
    assert "0123" not in preview(text)
    assert "0123" not in preview([text, {"k": text}])
    assert "0123" not in preview(text.encode())
    assert "0123" not in describe_error(ValueError("z" * 380 + "0123456789" * 4))


def test_numbers_that_are_secrets_are_masked_too():
    cs.Secret("314159")
    assert preview(314159) == "***"
    assert preview([314159]) == "[***]"
    assert preview(3.14) == "3.14"


class Custom(Exception):
    def __init__(self, url):
        super().__init__()
        self.url = url

    def __str__(self):
        return f"cannot reach {self.url}"


def test_an_error_and_all_it_came_from_are_masked_in_place():
    cs.Secret(TOKEN)
    cause = OSError(2, "no such file", f"/tmp/{TOKEN}")
    error = ExceptionGroup(f"group {TOKEN}", [ValueError(TOKEN, 5), Custom(f"https://{TOKEN}")])
    error.__cause__ = cause
    error.exceptions[0].add_note(f"with {TOKEN}")
    first = error.exceptions[0]
    mask_error(error)
    assert error.exceptions[0] is first
    assert first.args == ("***", 5)
    assert first.__notes__ == ["with ***"]
    assert str(error.exceptions[1]) == "cannot reach https://***"
    assert str(cause) == "[Errno 2] no such file: '/tmp/***'"


def test_secrets_in_containers_of_an_error_are_masked():
    cs.Secret(TOKEN)

    class Refused(Exception):
        def __init__(self, headers):
            super().__init__("refused")
            self.headers = headers

        def __str__(self):
            return f"refused: {self.headers}"

    plain, own = ValueError({"TOKEN": TOKEN}, [f"x {TOKEN}"]), Refused({"Authorization": TOKEN})
    for error in (plain, own):
        mask_error(error)
        assert TOKEN not in "".join(traceback.format_exception(error))
        assert TOKEN not in repr(vars(error))


# Parameters and the environment.


@cs.task
def ask(token: cs.Secret) -> int:
    return len(token.reveal())


def test_a_parameter_becomes_a_secret():  # S19
    assert cs.run(ask(cs.Param("token", type=cs.Secret)), params={"token": TOKEN}) == len(TOKEN)
    assert cs.run(ask(cs.Param("token", type=cs.Secret)), params={"token": cs.Secret("other")}) == 5
    assert cs.run(ask(cs.Param("token", default=cs.Secret("default")))) == 7


def test_a_variable_becomes_a_secret_or_anything_else(monkeypatch):  # S19
    monkeypatch.setenv("A_TOKEN", TOKEN)
    monkeypatch.setenv("A_NUMBER", "42")
    assert cs.run(ask(cs.Env("A_TOKEN", type=cs.Secret))) == len(TOKEN)
    assert cs.run(cs.Env("A_NUMBER", type=int)) == 42
    assert cs.run(cs.Env("NO_NUMBER", default=7, type=int)) == 7


@pytest.mark.parametrize(
    ("declared", "params"),
    [
        (cs.Param("token", type=cs.Secret), {"token": 271828}),
        (cs.Param("token", type=list[cs.Secret]), {"token": '["a", 271828]'}),
        (cs.Param("token", type=dict[str, cs.Secret]), {"token": "{271828"}),
        (cs.Param("token", type=cs.Secret | None), {"token": 271828}),
        (cs.Param("token", type=cs.Secret), {"tokn": "271828", "token": "x"}),
    ],
)
def test_a_wrong_secret_is_refused_without_telling_it(declared, params):  # S19 S30
    with pytest.raises(cs.ParameterError) as raised:
        cs.run(declared, params=params)
    assert "271828" not in str(raised.value)
    assert "***" in str(raised.value)


def test_a_default_of_a_secret_is_not_told():
    with pytest.raises(cs.DeclarationError) as raised:
        cs.Param("token", default="swordfish", type=cs.Secret)
    assert "swordfish" not in str(raised.value)
    assert isinstance(raised.value.__context__, Misfit | None)


# What leaves a run.


@cs.task
def leak(token: cs.Secret) -> str:
    return f"https://me:{token.reveal()}@host"


@cs.task
def fail(token: cs.Secret) -> None:
    raise ConnectionError(f"401 for {token.reveal()}")


@pytest.mark.parametrize("task", [leak, fail])
def test_nothing_that_a_run_tells_has_a_secret_in_it(task):  # S28
    stream = io.StringIO()
    told = []
    bus = cs.MessageBus()
    bus.subscribe(cs.Event, told.append)
    JsonLines(stream, "DEBUG").attach(bus)
    target = task(cs.Param("token", type=cs.Secret)).with_retry(max_attempts=2)
    note = ""
    try:
        cs.run(target, params={"token": TOKEN}, bus=bus, log_level="CRITICAL")
    except ConnectionError as error:
        note = f"{error} {error.args} {error.__notes__}"
    text = "\n".join([stream.getvalue(), note, repr(told), *map(sentence, told)])
    assert any(isinstance(event, events.RunStarted) for event in told)
    assert "swordfish" not in text
    assert "401 for ***" in note or task is leak


def test_the_result_itself_is_not_touched():
    assert cs.run(leak(cs.Param("token", type=cs.Secret)), params={"token": TOKEN}) == f"https://me:{TOKEN}@host"


@cs.task(executor="process")
def elsewhere(token: cs.Secret) -> tuple[int, str]:
    return len(token.reveal()), repr(token)


def test_a_secret_goes_to_a_worker_process():  # S6
    assert cs.run(elsewhere(cs.Secret(TOKEN))) == (len(TOKEN), "Secret('***')")


# What is written down.


@pytest.mark.parametrize(
    "wrap", [lambda it: it, lambda it: [1, {"k": it}], lambda it: it.reveal(), lambda it: f"<{it.reveal()}>".encode()]
)
def test_a_serializer_for_stores_refuses_secrets(wrap):
    serializer = SignedSerializer(bytes(32))
    with pytest.raises(cs.UnserializableValueError, match="a secret is not written down") as raised:
        serializer.dumps(wrap(cs.Secret(TOKEN)), context=b"")
    assert "swordfish" not in str(raised.value)
    with pytest.raises(cs.UnserializableValueError) as raised:
        serializer.dumps({"key": [cs.Secret("abc")]}, context=b"")
    assert raised.value.path == "result['key'][0]"


def test_short_secrets_are_not_looked_for_in_bytes():
    cs.Secret("test")
    assert not is_within(b"the latest tests")
    assert SignedSerializer(bytes(32)).dumps("the latest tests", context=b"")


def test_a_cache_in_a_directory_does_not_keep_a_secret(tmp_path: Path):  # S25
    cache = cs.DirectoryCacheBackend(tmp_path)
    value = leak(cs.Param("token", type=cs.Secret)).with_cache(cs.InputsCache(cache))
    assert cs.run(value, params={"token": TOKEN}, log_level="CRITICAL").endswith("@host")
    assert all(b"swordfish" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_secret_can_be_pickled_for_another_process():
    secret = cs.Secret(TOKEN)
    assert pickle.loads(pickle.dumps(secret)) == secret


def test_a_secret_in_a_name_is_masked_where_it_is_named():
    cs.Secret(TOKEN)
    fetch = cs.task(len, name=f"fetch {TOKEN}")
    assert fetch.name == "fetch ***"
    assert fetch("a").named(f"fetch {TOKEN}").name == "fetch ***"
