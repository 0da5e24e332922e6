"""The limits of Amazon SQS, as one list.

Units come last in the names; no unit means a count of what the name says. Each
constant names its source: BOTO is the documentation inside botocore's `sqs`
model; QUOTAS are the pages "Amazon SQS message quotas", "standard queue quotas"
and "FIFO queue quotas" of the Developer Guide; API is the API Reference;
RECORDED is a response of the real service.
"""

from __future__ import annotations

import re

# Queues

QUEUE_NAME_LENGTH_MAX = 80
"""Characters, `.fifo` included. QUOTAS."""

QUEUE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
"""A standard queue's name. QUOTAS."""

FIFO_SUFFIX = ".fifo"
"""Ends the name of every FIFO queue, and of no other. API, CreateQueue."""

FIFO_QUEUE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo\Z")
"""A FIFO queue's name. API, CreateQueue."""

QUEUE_DELETED_WAIT_S = 60
"""Before the name of a deleted queue is free again. API, DeleteQueue."""

PURGE_INTERVAL_S = 60
"""Between two purges of a queue. API, PurgeQueue."""

LIST_RESULTS_MIN = 1
LIST_RESULTS_MAX = 1_000
"""Queues in one page of ListQueues or ListDeadLetterSourceQueues. API."""

TAGS_MAX = 50
"""Tags of a queue. QUOTAS."""

TAG_KEY_LENGTH_MAX = 128
TAG_VALUE_LENGTH_MAX = 256
"""Characters of a tag. QUOTAS."""

# Queue attributes: minimum, maximum and default. API, SetQueueAttributes.

DELAY_S_MAX = 900
DELAY_S_DEFAULT = 0

MESSAGE_BYTES_MIN = 1_024
MESSAGE_BYTES_MAX = 1_048_576
MESSAGE_BYTES_DEFAULT = 1_048_576
"""Body and message attributes together. BOTO; RECORDED for the default."""

RETENTION_S_MIN = 60
RETENTION_S_MAX = 1_209_600
RETENTION_S_DEFAULT = 345_600

WAIT_S_MAX = 20
WAIT_S_DEFAULT = 0

VISIBILITY_TIMEOUT_S_MAX = 43_200
"""Counted from the receive: a change may not reach beyond it. API, ChangeMessageVisibility."""

VISIBILITY_TIMEOUT_S_DEFAULT = 30

KMS_KEY_REUSE_S_MIN = 60
KMS_KEY_REUSE_S_MAX = 86_400
KMS_KEY_REUSE_S_DEFAULT = 300

# Dead letters and moves

RECEIVE_COUNT_MIN = 1
RECEIVE_COUNT_MAX = 1_000
"""`maxReceiveCount` of a redrive policy. API, SetQueueAttributes."""

REDRIVE_ALLOW_SOURCES_MAX = 10
"""`sourceQueueArns` of a redrive allow policy. API, SetQueueAttributes."""

MOVE_TASKS_RUNNING_MAX = 100
"""Running moves of one account. QUOTAS."""

MOVE_TASK_S_MAX = 129_600
"""A move ends after 36 hours. QUOTAS."""

MOVE_RATE_MAX = 500
"""Messages a second of one move. API, StartMessageMoveTask."""

MOVE_TASK_RESULTS_MIN = 1
MOVE_TASK_RESULTS_MAX = 10
MOVE_TASK_RESULTS_DEFAULT = 1
"""Tasks in one answer. API, ListMessageMoveTasks."""

# Policies. QUOTAS.

POLICY_BYTES_MAX = 8_192
POLICY_STATEMENTS_MAX = 20
POLICY_PRINCIPALS_MAX = 50
POLICY_CONDITIONS_MAX = 10
POLICY_ACTIONS_PER_STATEMENT_MAX = 7

PERMISSION_LABEL_LENGTH_MAX = 80
"""Characters `[A-Za-z0-9_-]`. API, AddPermission."""

# Messages

MESSAGE_TEXT_PATTERN = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*\\Z")
"""Every character that a body may have. API, SendMessage."""

FORBIDDEN_TEXT_PATTERN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""One character that a body may not have: the quick way to ask is `search`. API, SendMessage."""

MESSAGE_ATTRIBUTES_MAX = 10
"""Message attributes of one message. QUOTAS."""

ATTRIBUTE_NAME_LENGTH_MAX = 256
"""Characters of a message attribute's name. QUOTAS."""

ATTRIBUTE_TYPE_LENGTH_MAX = 256
"""Characters of a message attribute's data type, suffix included. QUOTAS."""

CLIENT_ID_LENGTH_MAX = 128
"""Characters of an id that a client chooses: of a group, a deduplication or a receive attempt. API."""

CLIENT_ID_PATTERN = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,128}\Z")
"""Such an id: letters, digits and punctuation of ASCII. API, SendMessage and ReceiveMessage."""

DEDUPLICATION_WINDOW_S = 300
"""During which a repeated deduplication id is a duplicate. API, SendMessage."""

# Batches

BATCH_ENTRIES_MAX = 10
"""Entries of any batch. QUOTAS."""

BATCH_BYTES_MAX = 1_048_576
"""All messages of a batch together, whatever the queue's own maximum. BOTO; RECORDED."""

BATCH_ENTRY_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")
"""QUOTAS."""

# Receives

RECEIVE_MESSAGES_MIN = 1
RECEIVE_MESSAGES_MAX = 10
RECEIVE_MESSAGES_DEFAULT = 1
"""Messages of one receive. API, ReceiveMessage."""

IN_FLIGHT_STANDARD_MAX = 120_000
"""Past it a short poll of a standard queue is OverLimit and a long poll waits. QUOTAS."""

IN_FLIGHT_FIFO_MAX = 120_000
"""Past it a FIFO queue gives nothing, without an error. QUOTAS."""

RECEIVE_ATTEMPT_S = 300
"""During which a repeated `ReceiveRequestAttemptId` gets the same messages. API, ReceiveMessage."""
