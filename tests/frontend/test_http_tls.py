"""TLS on the data plane: the files it takes, what it says of others, the versions it speaks."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.frontend.http_driver import (
    Client,
    Poll,
    connected,
    echo,
    on_each_loop,
    post,
    serving,
    until,
    within_deadline,
)
from waystation.frontend.http import HttpServer, Request, Response
from waystation.frontend.settings import HttpSettings


class Files:
    """A self-signed certificate for 127.0.0.1, its key and that key under a password."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "certificate.pem"
        self.key = folder / "key.pem"
        self.locked_key = folder / "locked.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        self.certificate.write_bytes(self_signed(key).public_bytes(serialization.Encoding.PEM))
        for path, lock in (
            (self.key, serialization.NoEncryption()),
            (self.locked_key, serialization.BestAvailableEncryption(b"password")),
        ):
            path.write_bytes(
                key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
            )

    def client(self) -> ssl.SSLContext:
        """A client that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.certificate))


def self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "waystation.test")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@on_each_loop
async def test_requests_over_tls_are_answered_and_known_as_secure(files: Files) -> None:
    secure: list[bool] = []

    async def keep(request: Request) -> Response:
        secure.append(request.secure)
        return await echo(request)

    tls = files.client()
    tls.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        serving(keep, tls_certificate=files.certificate, tls_key=files.key) as server,
        connected(server, tls) as client,
    ):
        for body in (b"small", bytes(1_000_000)):
            client.send(post(body) + post(b"pipelined"))
            assert (await client.answer()).body == body
            assert (await client.answer()).body == b"pipelined"

        assert secure == [True] * 4
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


@on_each_loop
async def test_a_refusal_over_tls_can_be_read(files: Files) -> None:
    async with (
        serving(echo, tls_certificate=files.certificate, tls_key=files.key) as server,
        connected(server, files.client()) as client,
    ):
        client.send(b"hello\r\n\r\n")

        assert (await client.answer()).status == 400
        client.writer.close()
        await until(lambda: server.connections == 0)


@on_each_loop
async def test_a_client_that_goes_while_its_request_waits_leaves_nothing_over_tls(files: Files) -> None:
    """TLS has no half-closed connections, so there is nothing to wait for."""
    poll = Poll()
    async with serving(
        poll, half_closed_grace_s=60.0, tls_certificate=files.certificate, tls_key=files.key
    ) as server:
        async with connected(server, files.client()) as client:
            client.send(post())
            await until(lambda: poll.begun == 1)
            client.writer.close()
            await until(lambda: server.connections == 0)

        assert poll.ended == 1


@on_each_loop
async def test_an_idle_tls_client_does_not_hold_up_a_stop(files: Files) -> None:
    """Nobody reads a connection that waits in a pool, so nobody confirms its end."""
    settings = HttpSettings(
        port=0, shutdown_grace_s=600.0, tls_certificate=files.certificate, tls_key=files.key
    )
    server = HttpServer(settings, echo)
    await server.start()

    def connect() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", server.port))
        return files.client().wrap_socket(plain, server_hostname="127.0.0.1")

    with await asyncio.to_thread(connect) as idle:
        await until(lambda: server.connections == 1)
        await within_deadline(server.stop())

        assert server.connections == 0
        assert idle.fileno() >= 0


@on_each_loop
async def test_plain_http_on_the_tls_port_does_no_harm(files: Files) -> None:
    async with serving(echo, tls_certificate=files.certificate, tls_key=files.key) as server:
        async with connected(server) as plain:
            plain.send(post())
            assert b"200 OK" not in await plain.until_closed()
        async with connected(server, files.client()) as client:
            await ask(client)


@on_each_loop
async def test_a_handshake_that_never_ends_is_given_up(files: Files) -> None:
    async with (
        serving(echo, tls_certificate=files.certificate, tls_key=files.key, read_timeout_s=0.1) as server,
        connected(server) as silent,
    ):
        assert await silent.until_closed() == b""


@on_each_loop
async def test_tls_1_1_is_refused(files: Files) -> None:
    tls = files.client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.minimum_version = ssl.TLSVersion.TLSv1_1
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    tls.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(echo, tls_certificate=files.certificate, tls_key=files.key) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(server, tls):
                pass


async def ask(client: Client) -> None:
    client.send(post(b"hello"))
    assert (await client.answer()).body == b"hello"


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("missing.pem", "key.pem", r"No such file or directory: '.*missing\.pem'"),
        ("certificate.pem", "missing.pem", r"No such file or directory: '.*missing\.pem'"),
        ("key.pem", "key.pem", r"the TLS certificate .*key\.pem and key .*key\.pem cannot be used"),
        ("certificate.pem", None, r"certificate\.pem cannot be used"),
        ("certificate.pem", "locked.pem", "the key is protected by a password"),
        (None, "key.pem", "tls_key is given without tls_certificate"),
    ],
)
@on_each_loop
async def test_files_that_cannot_be_used_are_named(
    files: Files, certificate: str | None, key: str | None, reason: str
) -> None:
    folder = files.key.parent
    settings = HttpSettings(
        port=0,
        tls_certificate=folder / certificate if certificate else None,
        tls_key=folder / key if key else None,
    )

    with pytest.raises(OSError, match=reason):
        await within_deadline(HttpServer(settings, echo).start())
