"""What clients can rely on, row by row: how it compares with Amazon SQS, and the test that proves it.

A test is written as `directory/file::name` below `tests/`. Errors are not here: their rows come from
the table that provokes each of them, `tests/contract/test_every_error.py`.
"""

# ruff: noqa: E501  (names of tests are sentences)

from __future__ import annotations

from typing import NamedTuple

SAME, STRICTER, DIFFERENT = "same", "stricter", "different"


class Row(NamedTuple):
    """`names` are those of the model or, of limits, of `protocol/limits.py`."""

    names: tuple[str, ...]
    verdict: str
    remark: str
    test: str


def row(names: str, test: str, verdict: str = SAME, remark: str = "") -> Row:
    """A row; names are separated by blanks."""
    return Row(tuple(names.split()), verdict, remark, test)


ACTIONS = [
    row(
        "AddPermission",
        "contract/test_tags_and_permissions::test_a_permission_is_a_statement_in_the_policy_as_aws_writes_it",
        DIFFERENT,
        "The policy is written as AWS writes it, and not enforced yet.",
    ),
    row(
        "CancelMessageMoveTask",
        "contract/test_move_tasks::test_a_running_task_is_listed_with_its_handle_and_cancelled_by_it",
    ),
    row(
        "ChangeMessageVisibility",
        "contract/test_receipts::test_a_timeout_that_is_extended_hides_the_message_on",
    ),
    row(
        "ChangeMessageVisibilityBatch",
        "contract/test_receipts::test_a_batch_changes_what_it_can_and_names_what_it_cannot",
    ),
    row(
        "CreateQueue",
        "contract/test_queues::test_creating_an_existing_queue_compares_only_the_attributes_given",
        remark="A queue can be used at once.",
    ),
    row(
        "DeleteMessage",
        "contract/test_receipts::test_an_earlier_handle_still_deletes_a_message_that_was_received_again",
        remark="On a standard queue any receipt of a message deletes it; on a FIFO queue an expired one is refused.",
    ),
    row(
        "DeleteMessageBatch",
        "contract/test_receipts::test_a_batch_deletes_what_it_can_and_names_what_it_cannot",
    ),
    row(
        "DeleteQueue",
        "contract/test_queues::test_a_deleted_queue_does_not_exist_for_any_operation",
        remark="At once.",
    ),
    row("GetQueueAttributes", "contract/test_queue_attributes::test_only_the_attributes_asked_for_are_shown"),
    row("GetQueueUrl", "contract/test_queues::test_the_url_of_a_queue_is_found_by_its_name_and_owner"),
    row(
        "ListDeadLetterSourceQueues",
        "contract/test_redrive_policies::test_sources_are_listed_in_pages_until_there_is_no_token_more",
    ),
    row(
        "ListMessageMoveTasks",
        "contract/test_move_tasks::test_a_task_moves_everything_to_its_destination_and_tells_of_it",
    ),
    row(
        "ListQueueTags",
        "contract/test_tags_and_permissions::test_tags_are_added_overwritten_listed_and_removed",
    ),
    row("ListQueues", "contract/test_queues::test_queues_are_listed_in_pages_until_there_is_no_token_more"),
    row(
        "PurgeQueue",
        "contract/test_queues::test_a_purge_drops_messages_whatever_their_state",
        remark="At once.",
    ),
    row(
        "ReceiveMessage",
        "contract/test_receive::test_a_received_message_is_hidden_and_comes_back_after_its_timeout",
        STRICTER,
        "No other receive returns a message before its timeout ends, also after a crash. AWS promises that for FIFO queues only.",
    ),
    row(
        "RemovePermission",
        "contract/test_tags_and_permissions::test_removing_the_last_permission_removes_the_policy",
    ),
    row(
        "SendMessage",
        "crash/test_kill::test_acknowledged_is_durable_and_one_consumer_at_a_time_through_twenty_kills",
        remark="Answered when it is on the disk. Refused with 503 while less than 64 MiB of the disk are free.",
    ),
    row("SendMessageBatch", "contract/test_send_batch::test_an_entry_that_cannot_be_sent_fails_alone"),
    row(
        "SetQueueAttributes",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
        remark="Takes effect at once, and not within 60 seconds.",
    ),
    row(
        "StartMessageMoveTask",
        "crash/test_move_tasks::test_a_move_goes_on_through_kills_and_each_message_is_in_one_place",
        remark="Goes on after a restart. Each message is moved exactly once.",
    ),
    row("TagQueue", "contract/test_tags_and_permissions::test_a_bad_tag_is_refused_and_no_other_is_added"),
    row(
        "UntagQueue", "contract/test_tags_and_permissions::test_removing_a_tag_that_is_not_there_is_no_error"
    ),
]

_COUNTS = "contract/test_queue_attributes::test_counts_tell_visible_in_flight_and_delayed_messages_apart"
_DEFAULTS = "contract/test_queue_attributes::test_a_new_queue_has_all_defaults"
_FIFO = "contract/test_fifo::test_every_attribute_of_a_fifo_queue_is_shown_with_its_default"

QUEUE_ATTRIBUTES = [
    row("All", "contract/test_queue_attributes::test_a_new_queue_has_all_defaults"),
    row(
        "ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible ApproximateNumberOfMessagesDelayed",
        _COUNTS,
        remark="Exact, except that expired messages may be counted for a while, and that of a FIFO queue, where delays "
        "are the queue's, the delayed ones are told by when they were sent.",
    ),
    row(
        "ContentBasedDeduplication",
        "contract/test_fifo::test_contents_are_the_body_alone_and_an_explicit_id_goes_before_them",
    ),
    row(
        "CreatedTimestamp LastModifiedTimestamp",
        "contract/test_queue_attributes::test_a_change_moves_the_time_of_the_last_modification_only",
    ),
    row(
        "DeduplicationScope",
        "contract/test_fifo::test_changing_the_scope_later_is_shown_and_has_no_effect",
        remark="The one in force is that of the creation, as recorded of AWS.",
    ),
    row(
        "DelaySeconds",
        "contract/test_queue_attributes::test_a_changed_delay_holds_for_later_messages_only",
        remark="Of a FIFO queue, a changed delay holds for earlier messages too.",
    ),
    row("FifoQueue", "contract/test_fifo::test_a_queue_does_not_change_its_type"),
    row(
        "FifoThroughputLimit",
        "contract/test_fifo_refusals::test_a_limit_of_throughput_by_groups_needs_deduplication_by_groups",
        DIFFERENT,
        "Validated, stored and shown. No queue is throttled to 300 calls a second.",
    ),
    row(
        "KmsMasterKeyId KmsDataKeyReusePeriodSeconds",
        "contract/test_queue_attributes::test_a_kms_key_switches_the_other_encryption_off_and_it_stays_off",
        DIFFERENT,
        "Validated, stored and shown by AWS's rules. No key service is asked, and nothing is encrypted with it.",
    ),
    row("MaximumMessageSize", "contract/test_queue_attributes::test_the_queues_own_maximum_size_holds"),
    row(
        "MessageRetentionPeriod",
        "contract/test_clock::test_a_shorter_retention_period_drops_messages_that_are_there",
    ),
    row(
        "Policy",
        "contract/test_tags_and_permissions::test_a_policy_is_echoed_exactly_as_it_was_sent",
        DIFFERENT,
        "Validated, stored and shown, and not enforced yet: every key of the account may do everything.",
    ),
    row("QueueArn", _DEFAULTS),
    row(
        "ReceiveMessageWaitTimeSeconds",
        "contract/test_queue_attributes::test_the_queues_wait_time_holds_for_receives_without_one",
    ),
    row("RedriveAllowPolicy", "contract/test_redrive_policies::test_a_dead_letter_queue_says_whose_it_is"),
    row(
        "RedrivePolicy",
        "crash/test_dead_letters::test_each_dead_letter_is_in_one_place_through_ten_kills",
        remark="Shown as it was sent. Each letter moves exactly once, on the receive that would exceed its limit.",
    ),
    row(
        "SqsManagedSseEnabled",
        "contract/test_queue_attributes::test_both_encryptions_at_once_are_refused",
        DIFFERENT,
        "Stored and shown by AWS's rules, true by default. Nothing is encrypted at rest yet.",
    ),
    row(
        "VisibilityTimeout",
        "contract/test_queue_attributes::test_the_queues_visibility_timeout_holds_for_receives_without_one",
    ),
]

_TELLS = "contract/test_send::test_a_message_tells_who_sent_it_when_and_how_often_it_was_received"

SYSTEM_ATTRIBUTES = [
    row("AWSTraceHeader", "contract/test_send::test_a_trace_header_of_the_request_is_received"),
    row(
        "All",
        "contract/test_message_attributes::test_system_attributes_are_asked_for_by_their_old_and_their_new_member",
    ),
    row("ApproximateFirstReceiveTimestamp ApproximateReceiveCount SentTimestamp", _TELLS, remark="Exact."),
    row(
        "DeadLetterQueueSourceArn",
        "contract/test_dead_letters::test_the_source_of_a_dead_letter_is_shown_when_it_is_asked_for_by_name",
    ),
    row(
        "MessageDeduplicationId",
        "contract/test_fifo::test_contents_are_the_body_alone_and_an_explicit_id_goes_before_them",
    ),
    row(
        "MessageGroupId",
        "queues/test_fairness::test_the_tenant_with_the_fewest_messages_in_flight_goes_first",
        DIFFERENT,
        "On standard queues (fair queues) tenants with the fewest messages in flight go first, whether noisy or not; "
        "AWS says so of noisy ones. Messages without a group are never noisy.",
    ),
    row("SenderId", _TELLS, DIFFERENT, "The account's number: there are no users yet."),
    row("SequenceNumber", "contract/test_fifo::test_a_sequence_number_has_20_digits_and_rises"),
]

LIMITS = [
    row(
        "ATTRIBUTE_NAME_LENGTH_MAX",
        "contract/test_message_attributes::test_other_attribute_names_are_refused",
        remark="Letters of any script, as recorded of AWS.",
    ),
    row(
        "ATTRIBUTE_TYPE_LENGTH_MAX",
        "contract/test_message_attributes::test_a_data_type_is_string_number_or_binary_with_or_without_a_suffix",
    ),
    row(
        "BATCH_BYTES_MAX",
        "contract/test_send_batch::test_a_batch_of_the_largest_size_is_taken_and_one_byte_more_is_refused",
    ),
    row("BATCH_ENTRIES_MAX", "contract/test_send_batch::test_a_batch_has_up_to_10_entries"),
    row("BATCH_ENTRY_ID_PATTERN", "contract/test_send_batch::test_an_odd_id_refuses_the_whole_batch"),
    row(
        "CLIENT_ID_LENGTH_MAX CLIENT_ID_PATTERN",
        "contract/test_fifo_refusals::test_ids_of_128_letters_digits_and_punctuation_are_taken",
    ),
    row(
        "DEDUPLICATION_WINDOW_S",
        "queues/test_fifo::test_five_minutes_after_the_first_message_its_deduplication_id_may_be_used_again",
    ),
    row(
        "DELAY_S_DEFAULT DELAY_S_MAX", "contract/test_send::test_a_delay_outside_0_to_900_seconds_is_refused"
    ),
    row(
        "FIFO_QUEUE_NAME_PATTERN FIFO_SUFFIX",
        "contract/test_fifo_refusals::test_the_name_of_a_fifo_queue_ends_with_fifo_and_has_up_to_80_characters",
    ),
    row(
        "FORBIDDEN_TEXT_PATTERN MESSAGE_TEXT_PATTERN",
        "contract/test_send::test_any_other_character_is_refused",
    ),
    row(
        "IN_FLIGHT_FIFO_MAX IN_FLIGHT_STANDARD_MAX",
        "contract/test_clock::test_a_short_poll_is_over_its_limit_when_120_000_messages_are_in_flight",
        remark="A FIFO queue looks at all message groups, AWS only at those of the first 120,000 messages.",
    ),
    row(
        "KMS_KEY_REUSE_S_DEFAULT KMS_KEY_REUSE_S_MAX KMS_KEY_REUSE_S_MIN",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
    ),
    row("LIST_RESULTS_MAX LIST_RESULTS_MIN", "contract/test_queues::test_a_page_has_1_to_1000_queues"),
    row("MESSAGE_ATTRIBUTES_MAX", "contract/test_message_attributes::test_a_message_has_up_to_10_attributes"),
    row(
        "MESSAGE_BYTES_DEFAULT MESSAGE_BYTES_MAX MESSAGE_BYTES_MIN",
        "contract/test_send::test_a_message_of_the_largest_size_is_taken_and_one_byte_more_is_refused",
    ),
    row(
        "MOVE_RATE_MAX MOVE_TASK_RESULTS_DEFAULT MOVE_TASK_RESULTS_MAX MOVE_TASK_RESULTS_MIN",
        "contract/test_move_tasks::test_what_cannot_be_is_refused",
    ),
    row(
        "MOVE_TASKS_RUNNING_MAX",
        "frontend/test_move_runner::test_an_account_has_a_hundred_moves_at_a_time_also_when_all_come_at_once",
    ),
    row("MOVE_TASK_S_MAX", "frontend/test_move_runner::test_a_move_is_stopped_after_its_longest_time"),
    row(
        "PERMISSION_LABEL_LENGTH_MAX",
        "frontend/test_policies::test_a_label_is_1_to_80_letters_digits_hyphens_and_underscores",
    ),
    row(
        "POLICY_ACTIONS_PER_STATEMENT_MAX",
        "contract/test_tags_and_permissions::test_a_policy_has_at_most_7_actions_in_a_statement",
    ),
    row("POLICY_BYTES_MAX", "contract/test_queue_attributes::test_a_document_may_have_8192_bytes"),
    row(
        "POLICY_CONDITIONS_MAX POLICY_PRINCIPALS_MAX POLICY_STATEMENTS_MAX",
        "frontend/test_policies::test_a_policy_has_a_limited_number_of_each",
    ),
    row("PURGE_INTERVAL_S", "contract/test_clock::test_a_purge_is_allowed_again_after_60_seconds"),
    row(
        "QUEUE_DELETED_WAIT_S",
        "contract/test_name_reuse::test_a_deleted_queue_cannot_be_created_again_at_once_not_even_after_a_crash",
        remark="`--service.name-reuse-s 0` turns it off.",
    ),
    row(
        "QUEUE_NAME_LENGTH_MAX QUEUE_NAME_PATTERN",
        "contract/test_queues::test_a_queue_name_has_up_to_80_characters",
    ),
    row(
        "RECEIVE_ATTEMPT_S",
        "queues/test_attempts::test_an_attempt_has_its_messages_again_for_five_minutes",
        remark="The last 20,000 attempts of a queue are remembered.",
    ),
    row(
        "RECEIVE_COUNT_MAX RECEIVE_COUNT_MIN",
        "contract/test_redrive_policies::test_a_message_is_received_1_to_1000_times",
    ),
    row(
        "RECEIVE_MESSAGES_DEFAULT RECEIVE_MESSAGES_MAX RECEIVE_MESSAGES_MIN",
        "contract/test_receive::test_1_to_10_messages_can_be_asked_for",
    ),
    row("REDRIVE_ALLOW_SOURCES_MAX", "frontend/test_redrive::test_by_queue_lists_1_to_10_sources"),
    row(
        "RETENTION_S_DEFAULT RETENTION_S_MAX RETENTION_S_MIN",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
    ),
    row(
        "TAGS_MAX TAG_KEY_LENGTH_MAX TAG_VALUE_LENGTH_MAX",
        "contract/test_queues::test_a_queue_is_created_with_up_to_50_tags_of_limited_length",
    ),
    row(
        "VISIBILITY_TIMEOUT_S_DEFAULT VISIBILITY_TIMEOUT_S_MAX",
        "contract/test_clock::test_a_message_is_hidden_for_12_hours_from_its_receive_at_most",
    ),
    row("WAIT_S_DEFAULT WAIT_S_MAX", "contract/test_receive::test_a_receive_waits_0_to_20_seconds"),
]
