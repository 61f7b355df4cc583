"""A small certificate authority: X.509 certificates (RFC 5280) on P-256 keys, as Python's strict verification wants them."""
from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from poweranger.errors import UserError

CA_DAYS, SERVER_DAYS = 3650, 397
SKEW = datetime.timedelta(hours=1)  # clocks that are behind find a new certificate valid
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key: signing with it costs an eighth of P-384."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """The authority's own certificate. Made anew with the same key and name, it goes with the certificates it has signed."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    usage = x509.KeyUsage(False, False, False, False, False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
    builder = _certificate(subject, subject, key.public_key(), CA_DAYS)
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def make_server(key: ec.EllipticCurvePrivateKey, names: Sequence[str], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The server's certificate for host names and addresses, in their order."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    usage = x509.KeyUsage(True, False, False, False, False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False)
    builder = _certificate(subject, ca.subject, key.public_key(), SERVER_DAYS)
    return (
        builder.add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def check_host(name: str) -> str:
    """`name` when it is a host name or an IP address; else a `UserError`.

    A host name does not end in a number (RFC 3696, 2): what does is an address, or one with a slip in it.
    """
    if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise UserError(f"{name!r} is no host name and no IP address: give what the sites call the server by, without a port") from None
    return name


def names_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses that a certificate is for, in its order."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found]


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a PEM file; a `UserError` names a file that has none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} holds no certificate in PEM format") from None


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file; a `UserError` names a file that has none."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise UserError(f"{path} holds no unencrypted private key in PEM format") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path} holds no elliptic-curve key")
    return key


def certificate_text(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def ssh_texts(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """A client's private and public key in OpenSSH format, which stock SuperNodes read, too."""
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), public + b"\n"
