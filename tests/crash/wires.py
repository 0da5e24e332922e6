"""How clients talk to a server that may vanish at any moment: what became of a request is never guessed."""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, ReadTimeoutError

from bench.signing import Signer
from tests.server import ACCESS_KEY_ID, SECRET_ACCESS_KEY

PATIENCE_S = 30.0
"""Longer than any fault lasts."""


class Refused(Exception):
    """The client was wrong: nothing has happened."""


class NotHeard(Exception):
    """Nobody listened: nothing has happened."""


class Unknown(Exception):
    """It may have happened; or, if `may_go_on`, still happen."""

    def __init__(self, *, may_go_on: bool = False) -> None:
        super().__init__()
        self.may_go_on = may_go_on


class Wire(ABC):
    """One client's way to the server. Not for two threads at once."""

    @abstractmethod
    def call(self, operation: str, members: dict[str, Any], sending: Callable[[], None]) -> dict[str, Any]:
        """Make a call, and say `sending` before each request.

        Raises `Refused`, `NotHeard` or `Unknown`, of the last request; those before are unknown.
        """

    @abstractmethod
    def close(self) -> None:
        """Hang up. It may be used again."""


class ThinWire(Wire):
    """AWS JSON, signed, over one connection: much cheaper than an SDK, so that many can be at work."""

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        address = urlsplit(url)
        self._address = (address.hostname, address.port)
        self._signer = Signer(address.netloc, ACCESS_KEY_ID, SECRET_ACCESS_KEY)
        self._patience_s = patience_s
        self._socket: socket.socket | None = None

    def call(self, operation: str, members: dict[str, Any], sending: Callable[[], None]) -> dict[str, Any]:
        sending()
        if self._socket is None:
            self._connect()
        assert self._socket is not None
        try:
            self._socket.sendall(self._signer.request(operation, json.dumps(members).encode()))
            with HTTPResponse(self._socket) as response:
                response.begin()
                status, content = response.status, response.read()
                if response.will_close:
                    self.close()
        except (OSError, HTTPException) as error:
            self.close()
            raise Unknown(may_go_on=isinstance(error, TimeoutError)) from error
        if status >= 500:
            raise Unknown
        if status != 200:
            raise Refused(content.decode())
        answer: dict[str, Any] = json.loads(content or b"{}")
        return answer

    def _connect(self) -> None:
        try:
            self._socket = socket.create_connection(self._address, self._patience_s)
        except OSError as error:
            raise NotHeard from error
        # While nobody listens at a port, the kernel may connect it to itself.
        if self._socket.getsockname() == self._socket.getpeername():
            self.close()
            raise NotHeard

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class BotoWire(Wire):
    """A boto3 client of one's own, with the retries that it makes by itself."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs
        self._sending: Callable[[], None] = lambda: None
        sqs.meta.events.register("before-send.sqs", lambda **_: self._sending())

    def call(self, operation: str, members: dict[str, Any], sending: Callable[[], None]) -> dict[str, Any]:
        self._sending = sending
        try:
            answer: dict[str, Any] = getattr(self._sqs, xform_name(operation))(**members)
        except EndpointConnectionError as error:
            raise NotHeard from error
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise Unknown from error
            raise Refused(str(error)) from error
        except BotoCoreError as error:
            raise Unknown(may_go_on=isinstance(error, ReadTimeoutError)) from error
        return answer

    def close(self) -> None:
        self._sqs.close()
