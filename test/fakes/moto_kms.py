"""moto's server, with three answers of its KMS (5.2) put right: it hashes a digest once more, which no verifier accepts; it fails to
plan the removal of a key that is named by its ARN; and it lets a key sign whose removal is planned."""
import contextvars
import sys

from cryptography.hazmat.primitives.asymmetric import utils
from moto.kms import models, responses
from moto.kms.exceptions import JsonRESTError
from moto.kms import utils as keys
from moto.server import main

import moto_pca  # noqa: F401, puts the Private CA right as well

message_type = contextvars.ContextVar("message_type", default="RAW")


def remember_message_type(handle):
    def sign(self):
        message_type.set(self._get_param("MessageType") or "RAW")
        return handle(self)

    return sign


def by_id(handle):
    return lambda self, key_id, pending: handle(self, key_id.split("/")[-1], pending)


def refuse_planned(handle):
    def sign(self, key_id, message, signing_algorithm):
        key = self.describe_key(key_id)
        if key.key_state == "PendingDeletion":
            raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
        return handle(self, key_id, message, signing_algorithm)

    return sign


class DigestSigner:
    """The private key, but for digests."""

    def __init__(self, key):
        self.key = key

    def sign(self, message, *arguments):
        if message_type.get() != "DIGEST":
            return self.key.sign(message, *arguments)
        last = arguments[-1]
        if hasattr(last, "name"):
            return self.key.sign(message, *arguments[:-1], utils.Prehashed(last))
        return self.key.sign(message, type(last)(utils.Prehashed(last.algorithm)))

    def __getattr__(self, name):
        return getattr(self.key, name)


def sign_digests(cls):
    make = cls.__init__

    def __init__(self, *arguments, **named):
        make(self, *arguments, **named)
        self.private_key = DigestSigner(self.private_key)

    cls.__init__ = __init__


responses.KmsResponse.sign = remember_message_type(responses.KmsResponse.sign)
models.KmsBackend.schedule_key_deletion = by_id(models.KmsBackend.schedule_key_deletion)
models.KmsBackend.sign = refuse_planned(models.KmsBackend.sign)
sign_digests(keys.RSAPrivateKey)
sign_digests(keys.ECDSAPrivateKey)
sys.exit(main(sys.argv[1:]))
