"""An authority that signs certificates, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from perception import TLS


@dataclass(frozen=True)
class Authority:
    """Vouches for processes of this machine. directory: where its files lie."""

    directory: Path
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, directory: Path, name: str = "authority") -> Authority:
        """A new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(name)
        signed = (
            _certificate(subject, subject, key, timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        authority = cls(directory, name, key, signed)
        authority.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return authority

    @property
    def file(self) -> Path:
        """Its own certificate."""
        return self.directory / f"{self.name}.pem"

    def issue(self, name: str, valid: timedelta = timedelta(hours=1), owner: str = "") -> TLS:
        """A certificate for localhost and 127.0.0.1, in files of that name, which it replaces where they exist.

        valid: from now on; in the past where negative. owner: the name in the certificate, that of the files where none
        is given.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        signed = (
            _certificate(_named(owner or name), self.certificate.subject, key, valid)
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        tls = TLS(self.file, self.directory / f"{name}.crt", self.directory / f"{name}.key")
        _replace(Path(str(tls.certificate)), signed.public_bytes(serialization.Encoding.PEM))
        _replace(
            Path(str(tls.key)),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return tls


def environment(tls: TLS) -> dict[str, object]:
    """The variables by which a service is told of its certificate and its authorities."""
    return {"TLS_CA_FILE": tls.authorities, "TLS_CERTIFICATE_FILE": tls.certificate, "TLS_KEY_FILE": tls.key}


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + valid)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _replace(path: Path, data: bytes) -> None:
    """In one moment, as a cluster does."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
