"""Every serializer keeps the contract of `Serializer` (S27)."""

from __future__ import annotations

from cascade.adapters.serializers import SignedSerializer
from cascade.spec.protocols import Serializer
from cascade.testing.contracts.serializer import SerializerContract


class TestSignedSerializer(SerializerContract):
    def make_serializer(self, secret: bytes) -> Serializer:
        return SignedSerializer(secret)
