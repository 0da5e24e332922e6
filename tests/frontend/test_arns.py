"""What is the ARN of a queue, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waystation.frontend.arns import QueueArn

regions = st.from_regex(r"[a-z]{2}-[a-z]{4,9}-[1-9]", fullmatch=True)
accounts = st.from_regex(r"[0-9]{12}", fullmatch=True)
queue_names = st.from_regex(r"[A-Za-z0-9_-]{1,75}(\.fifo)?", fullmatch=True)


@given(regions, accounts, queue_names)
def test_the_text_of_an_arn_is_read_as_the_same_arn(region: str, account: str, name: str) -> None:
    arn = QueueArn(region, account, name)

    assert QueueArn.parse(str(arn)) == arn
    assert arn.is_fifo == name.endswith(".fifo")


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_an_arn_may_be_of_any_partition(partition: str) -> None:
    text = f"arn:{partition}:sqs:eu-west-1:111111111111:orders"

    assert QueueArn.parse(text) == ("eu-west-1", "111111111111", "orders")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orders",
        "arn:aws:sns:us-east-1:111111111111:orders",
        "arn:aws:sqs:us-east-1:1111:orders",
        "arn:aws:sqs:us-east-1:١١١١١١١١١١١١:orders",
        "arn:aws:sqs::111111111111:orders",
        "arn:aws:sqs:us-east-1:111111111111:",
        "arn:aws:sqs:us-east-1:111111111111:a b",
        "arn:aws:sqs:us-east-1:111111111111:orders\n",
        "arn:aws:sqs:us-east-1:111111111111:orders.fif",
        "arn:aws:sqs:us-east-1:111111111111:orders:1",
        "arn:aws:sqs:us-east-1:111111111111:" + "a" * 81,
        "arn:aws:sqs:us-east-1:111111111111:" + "a" * 76 + ".fifo",
        "arn:azure:sqs:us-east-1:111111111111:orders",
    ],
)
def test_what_names_no_queue_is_no_arn(text: str) -> None:
    assert QueueArn.parse(text) is None
