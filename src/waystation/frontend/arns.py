"""Amazon Resource Names of queues: how documents and answers name one without a host.

Source: SQS Developer Guide, "Amazon SQS resource and operations"; IAM User Guide,
"Identify AWS resources with Amazon Resource Names".
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from waystation.protocol import limits

_PATTERN = re.compile(
    r"arn:aws[a-z-]{0,30}:sqs:([a-z0-9-]{1,40}):([0-9]{12}):([A-Za-z0-9_-]{1,80}(?:\.fifo)?)\Z"
)


class QueueArn(NamedTuple):
    """Which queue, whether there is one or not. Its text form is the ARN."""

    region: str
    account: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an ARN, of any partition. None if it is not one of a queue."""
        match = _PATTERN.match(text)
        if match is None or len(match[3]) > limits.QUEUE_NAME_LENGTH_MAX:
            return None
        return cls(*match.groups())

    @property
    def is_fifo(self) -> bool:
        """A FIFO queue's name says so, and no other queue's does."""
        return self.name.endswith(limits.FIFO_SUFFIX)

    def __str__(self) -> str:
        return f"arn:aws:sqs:{self.region}:{self.account}:{self.name}"
