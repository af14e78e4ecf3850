"""What every `Serializer` must do, as tests for whoever writes one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import pytest

from cascade.adapters.serializers import CorruptedValueError, UnserializableValueError

if TYPE_CHECKING:
    from cascade.spec.protocols import Serializer

_HERE = b"run 1, node a#0"
_ELSEWHERE = b"run 1, node b#1"
_VALUES: list[object] = [
    *(None, False, True, 0, -1, 2**200, 1.5, -0.0, "", "text", "\ud800", "\0", b"", b"\x00\xff", [], {}, (), set()),
    {"a": [1, (2.5, None)], "b": {"c": "d"}},
    [["x"] * 50, list(range(1000))],
]


class SerializerContract(ABC):
    """Tests of a serializer; inherit from it in a test module, as a class whose name begins with `Test`.

    Values are plain data (numbers, text, lists, dicts, bytes): a serializer that takes less is none for results.
    """

    @abstractmethod
    def make_serializer(self, secret: bytes) -> Serializer:
        """A serializer that signs with a key made of the secret, which has 32 bytes."""

    @pytest.fixture(autouse=True)
    def _new_serializer(self) -> None:
        self.serializer = self.make_serializer(bytes(32))

    @pytest.mark.parametrize("value", _VALUES, ids=lambda value: repr(value)[:20])
    def test_a_value_comes_back_as_it_was(self, value: object) -> None:
        found = self.serializer.loads(self.serializer.dumps(value, context=_HERE), context=_HERE)
        assert found == value
        assert repr(found) == repr(value)

    def test_bytes_are_given_and_every_load_makes_a_new_object(self) -> None:
        value = {"items": [1]}
        payload = self.serializer.dumps(value, context=_HERE)
        assert type(payload) is bytes
        value["items"].append(2)
        first, second = (self.serializer.loads(payload, context=_HERE) for _ in range(2))
        assert first == second == {"items": [1]}
        assert first is not second

    def test_another_serializer_with_the_same_secret_loads_it(self) -> None:
        payload = self.serializer.dumps(["value"], context=_HERE)
        assert self.make_serializer(bytes(32)).loads(payload, context=_HERE) == ["value"]

    def test_a_value_put_in_the_place_of_another_is_refused(self) -> None:
        payload = self.serializer.dumps("value", context=_HERE)
        for context in (_ELSEWHERE, b"", _HERE + b" ", _HERE[:-1]):
            self._expect_refusal(payload, context)

    def test_a_value_signed_with_another_secret_is_refused(self) -> None:
        payload = self.make_serializer(b"\1" * 32).dumps("value", context=_HERE)
        self._expect_refusal(payload, _HERE)

    def test_bytes_that_are_not_whole_are_refused(self) -> None:
        payload = self.serializer.dumps({"key": "value"}, context=_HERE)
        for altered in (payload[:-1], payload[1:], payload + b"\0", payload * 2, payload[::-1], b""):
            self._expect_refusal(altered, _HERE)

    def test_every_flipped_bit_is_noticed(self) -> None:
        payload = self.serializer.dumps({"key": [1, "value"]}, context=_HERE)
        for place in range(8 * len(payload)):
            altered = bytearray(payload)
            altered[place // 8] ^= 1 << place % 8
            self._expect_refusal(bytes(altered), _HERE)

    def test_what_cannot_be_kept_is_named_with_its_place(self) -> None:
        with pytest.raises(UnserializableValueError) as caught:
            self.serializer.dumps({"model": [0, threading.Lock()]}, context=_HERE)
        assert caught.value.value_type is type(threading.Lock())
        assert caught.value.path == "result['model'][1]"

    def test_it_serves_many_threads_at_once(self) -> None:
        errors: list[BaseException] = []
        together = threading.Barrier(4)

        def work(own: int) -> None:
            try:
                together.wait()
                for turn in range(200):
                    context = f"{own} {turn}".encode()
                    payload = self.serializer.dumps([own, turn], context=context)
                    assert self.serializer.loads(payload, context=context) == [own, turn]
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors

    def _expect_refusal(self, payload: bytes, context: bytes) -> None:
        with pytest.raises(CorruptedValueError):
            self.serializer.loads(payload, context=context)
