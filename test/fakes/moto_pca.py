"""Two answers of moto's Private CA (5.2) put right, for subordinate CAs: the template says what the certificate may, and the request its
names; and it ends when it was asked to."""
import contextvars
import datetime
import json
import re

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from moto.acmpca import models, responses

validity = contextvars.ContextVar("validity", default=None)


def remember_validity(handle):
    def issue_certificate(self):
        validity.set(json.loads(self.body).get("Validity"))
        return handle(self)

    return issue_certificate


def by_template(handle):
    def extensions(self, csr, template_arn):
        found = re.search(r"template/SubordinateCACertificate_PathLen(\d)/V1$", template_arn or "")
        if found is None:
            return handle(self, csr, template_arn)
        usage = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"], False)
        return [
            (x509.BasicConstraints(ca=True, path_length=int(found[1])), True),
            (x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), True),
            (x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
            (csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, False),
        ]

    return extensions


def until_asked(handle):
    def generate_cert(self, subject, public_key, extensions):
        wanted = validity.get()
        if wanted is None or wanted["Type"] != "ABSOLUTE":
            return handle(self, subject=subject, public_key=public_key, extensions=extensions)
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.issuer).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(datetime.datetime.fromtimestamp(wanted["Value"], datetime.timezone.utc))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    return generate_cert


responses.ACMPCAResponse.issue_certificate = remember_validity(responses.ACMPCAResponse.issue_certificate)
models.CertificateAuthority._x509_extensions = by_template(models.CertificateAuthority._x509_extensions)
models.CertificateAuthority.generate_cert = until_asked(models.CertificateAuthority.generate_cert)
