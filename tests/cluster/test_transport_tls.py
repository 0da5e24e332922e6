"""Mutual TLS between nodes: who is let in, and what is said to whom is not."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.transport_driver import ECHO, TIMEOUT_S, Node, linked, serving, stranger_to
from tests.frontend.http_driver import on_each_loop
from waystation.cluster.transport_client import NotDone
from waystation.cluster.transport_server import TransportServer
from waystation.cluster.transport_settings import TransportSettings, parse_address


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, authority: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Of a node reached by that name; its own authority when both names are the same."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, authority)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=name == authority, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )


class Authority:
    """Signs certificates of nodes."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        own = certificate(name, self._key, name, self._key)
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def node(self, name: str) -> dict[str, Any]:
        """Settings of a node that shows a certificate of this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        signed = certificate(name, key, self._name, self._key)
        certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return {"tls_ca": self.file, "tls_certificate": certificate_file, "tls_key": key_file}


@dataclass
class Nodes:
    """Settings of nodes. `impostor` trusts the cluster's authority, which has not signed for it."""

    localhost: dict[str, Any]
    elsewhere: dict[str, Any]
    impostor: dict[str, Any]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Nodes:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    return Nodes(
        ours.node("localhost"), ours.node("elsewhere"), theirs.node("impostor") | {"tls_ca": ours.file}
    )


@on_each_loop
async def test_nodes_of_one_authority_reach_each_other_whatever_they_are_called(nodes: Nodes) -> None:
    async with (
        serving(Node(), **nodes.elsewhere) as server,
        linked(server.address, **nodes.localhost) as link,
    ):
        payloads = [bytes([number]) * 50_000 for number in range(50)]
        calls = [link.call(ECHO, payload, TIMEOUT_S) for payload in payloads]

        assert await asyncio.gather(*calls) == payloads


@on_each_loop
async def test_tls_works_over_a_unix_socket_as_well(
    nodes: Nodes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    listen = f"unix:{tmp_path_factory.mktemp('socket') / 'node'}"
    async with (
        serving(Node(), listen=listen, **nodes.elsewhere) as server,
        linked(server.address, **nodes.localhost) as link,
    ):
        assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"


@on_each_loop
async def test_names_are_checked_where_that_is_asked_for(nodes: Nodes) -> None:
    async with serving(Node(), **nodes.localhost) as right, serving(Node(), **nodes.elsewhere) as wrong:
        settings = nodes.localhost | {"tls_check_names": True}
        async with linked(right.address.replace("127.0.0.1", "localhost"), **settings) as link:
            assert await link.call(ECHO, b"hello", TIMEOUT_S) == b"hello"
        async with linked(wrong.address.replace("127.0.0.1", "localhost"), **settings) as link:
            with pytest.raises(NotDone, match=r"(?i)hostname mismatch"):
                await link.call(ECHO, b"", TIMEOUT_S)


@on_each_loop
async def test_a_caller_whose_certificate_another_authority_has_signed_is_not_served(nodes: Nodes) -> None:
    node = Node()
    async with serving(node, **nodes.localhost) as server, linked(server.address, **nodes.impostor) as link:
        with pytest.raises(NotDone):
            await link.call(ECHO, b"", TIMEOUT_S)
        assert node.begun == []


@on_each_loop
async def test_a_server_whose_certificate_another_authority_has_signed_is_told_nothing(nodes: Nodes) -> None:
    node = Node()
    async with serving(node, **nodes.impostor) as server, linked(server.address, **nodes.localhost) as link:
        with pytest.raises(NotDone, match="certificate verify failed"):
            await link.call(ECHO, b"", TIMEOUT_S)
        assert node.begun == []


@on_each_loop
async def test_a_caller_without_a_certificate_is_not_served(nodes: Nodes) -> None:
    async with serving(Node(), **nodes.localhost) as server:
        where = parse_address(server.address)
        assert isinstance(where, tuple)
        trusting = ssl.create_default_context(cafile=nodes.localhost["tls_ca"])
        trusting.check_hostname = False
        try:
            reader, writer = await asyncio.open_connection(*where, ssl=trusting)
            writer.write(b"WSTN")
            assert await reader.read() == b""
        except OSError:
            return  # TLS 1.3 says so only after the caller thinks that all is well
        writer.transport.abort()


@on_each_loop
async def test_who_does_not_speak_tls_is_not_served(nodes: Nodes) -> None:
    async with (
        serving(Node(), **nodes.localhost) as server,
        linked(server.address) as link,
        stranger_to(server.address) as stranger,
    ):
        stranger.say_hello()
        heard = await stranger.until_closed()
        with pytest.raises(NotDone):
            await link.call(ECHO, b"", TIMEOUT_S)

    assert b"server" not in heard


@on_each_loop
async def test_an_older_tls_is_not_spoken(nodes: Nodes) -> None:
    async with serving(Node(), **nodes.localhost) as server:
        where = parse_address(server.address)
        assert isinstance(where, tuple)
        caller = ssl.create_default_context(cafile=nodes.localhost["tls_ca"])
        caller.check_hostname = False
        caller.load_cert_chain(nodes.localhost["tls_certificate"], nodes.localhost["tls_key"])
        _, writer = await asyncio.open_connection(*where, ssl=caller)
        writer.transport.abort()
        caller.maximum_version = ssl.TLSVersion.TLSv1_2

        with pytest.raises((ConnectionError, ssl.SSLError)):
            await asyncio.open_connection(*where, ssl=caller)


@on_each_loop
async def test_tls_that_is_not_mutual_is_refused_at_the_start(nodes: Nodes) -> None:
    settings = TransportSettings(tls_ca=nodes.localhost["tls_ca"])

    with pytest.raises(ValueError, match="TLS between nodes is mutual"):
        await TransportServer(Node(), settings).start()
