"""Certificates that nobody else trusts."""

import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_NAMES = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]


class Pair(NamedTuple):
    """A certificate and its key, each in its own file."""

    certificate: Path
    key: Path


def pair(folder: Path) -> Pair:
    """Write a self-signed certificate for localhost and 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False).sign(key, hashes.SHA256()))
    written = Pair(folder / "public.pem", folder / "private.pem")
    written.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    written.key.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return written


def certificate(folder: Path) -> Path:
    """Write such a certificate together with its key in one file, as Python's ssl module loads them."""
    path, written = folder / "certificate.pem", pair(folder)
    path.write_bytes(written.certificate.read_bytes() + written.key.read_bytes())
    return path
