"""Values as signed bytes, for stores that outlive the process."""

from cascade.adapters.serializers.registry import register_type
from cascade.adapters.serializers.signed import SignedSerializer
from cascade.runtime.signing_key import SigningKeyError, load_signing_key
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
