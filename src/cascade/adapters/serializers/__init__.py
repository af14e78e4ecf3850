"""Values as signed bytes, for stores that outlive the process."""

from cascade.adapters.serializers.errors import SigningKeyError
from cascade.adapters.serializers.registry import register_type
from cascade.adapters.serializers.signed import SignedSerializer
from cascade.adapters.serializers.signing_key import load_signing_key
from cascade.spec.exceptions import ChangedCodeError, CorruptedValueError, UnserializableValueError

__all__ = [
    "ChangedCodeError",
    "CorruptedValueError",
    "SignedSerializer",
    "SigningKeyError",
    "UnserializableValueError",
    "load_signing_key",
    "register_type",
]
