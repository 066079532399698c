"""Certificates of a test's own: an authority, and what it signs for a server on 127.0.0.1 or for a client."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)
USES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Two PEM files."""

    file: Path
    key_file: Path


class Authority:
    """Signs certificates, into files of its directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        limits = x509.BasicConstraints(ca=True, path_length=0)
        signed = _builder(self._name, self._name, self._key).add_extension(limits, critical=True)
        self.file = directory / f"{name}.pem"
        """What trusts this authority is given."""
        self.file.write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, *, use: str, address: str = "127.0.0.1", ended: bool = False) -> Certificate:
        """For a `server` at that address or a `client`; `ended` yesterday, or good until tomorrow."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        last = datetime.now(UTC) + (-DAY if ended else DAY)
        builder = _builder(subject, self._name, key, last)
        builder = builder.add_extension(x509.ExtendedKeyUsage([USES[use]]), critical=False)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False
        )
        made = Certificate(file=self._directory / f"{name}.pem", key_file=self._directory / f"{name}.key")
        made.file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        made.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, last: datetime | None = None
) -> x509.CertificateBuilder:
    last = last or datetime.now(UTC) + DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(last - 10 * DAY)
        .not_valid_after(last)
    )
