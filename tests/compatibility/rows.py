"""What clients can rely on, row by row: how it compares with Amazon SQS, and the tests that prove it.

A test is written as `directory/file::name` below `tests/`. Of the errors only those are here that
the table which provokes each of the model, `tests/contract/test_every_error.py`, does not have, and
those of which there is more to say. Limits are in `limit_rows`.
"""

# ruff: noqa: E501  (names of tests are sentences)

from __future__ import annotations

from typing import NamedTuple

from waystation.log.settings import LogSettings

SAME, STRICTER, DIFFERENT = "same", "stricter", "different"


class Row(NamedTuple):
    """`names` are those of the model or, of limits, of `protocol/limits.py`; of errors, their shapes."""

    names: tuple[str, ...]
    tests: tuple[str, ...]
    verdict: str
    remark: str


def row(names: str, *tests: str, verdict: str = SAME, remark: str = "") -> Row:
    """A row; names are separated by blanks. Only what is different, or not there, may have no test."""
    return Row(tuple(names.split()), tests, verdict, remark)


_DISK = "crash/test_disk_full::test_sends_are_refused_while_the_disk_is_nearly_full_and_consumers_make_room"

ACTIONS = [
    row(
        "AddPermission",
        "contract/test_tags_and_permissions::test_a_permission_is_a_statement_in_the_policy_as_aws_writes_it",
        verdict=DIFFERENT,
        remark="The policy is written as AWS writes it, and not enforced yet.",
    ),
    row(
        "CancelMessageMoveTask",
        "contract/test_move_tasks::test_a_running_task_is_listed_with_its_handle_and_cancelled_by_it",
    ),
    row(
        "ChangeMessageVisibility",
        "contract/test_receipts::test_a_timeout_that_is_extended_hides_the_message_on",
        "contract/test_receipts::test_a_handle_whose_timeout_is_over_still_changes_it",
        "contract/test_receipts::test_an_earlier_handle_does_not_touch_the_timeout_of_a_later_receive",
        verdict=STRICTER,
        remark="On a standard queue an expired receipt still hides its message, as recorded of AWS, but never "
        "touches the timeout of a later receive.",
    ),
    row(
        "ChangeMessageVisibilityBatch",
        "contract/test_receipts::test_a_batch_changes_what_it_can_and_names_what_it_cannot",
    ),
    row(
        "CreateQueue",
        "contract/test_queues::test_creating_an_existing_queue_compares_only_the_attributes_given",
        "contract/test_queues::test_creating_an_existing_queue_with_another_attribute_names_the_attribute",
        verdict=STRICTER,
        remark="A queue can be used at once, and not after a second.",
    ),
    row(
        "DeleteMessage",
        "contract/test_receipts::test_an_earlier_handle_still_deletes_a_message_that_was_received_again",
        "contract/test_fifo::test_an_expired_receipt_does_not_delete_unless_it_was_extended",
        verdict=STRICTER,
        remark="On a standard queue any receipt of a message deletes it, and AWS promises it of the last one "
        "only. On a FIFO queue an expired one is refused, as by AWS.",
    ),
    row(
        "DeleteMessageBatch",
        "contract/test_receipts::test_a_batch_deletes_what_it_can_and_names_what_it_cannot",
    ),
    row(
        "DeleteQueue",
        "contract/test_queues::test_a_deleted_queue_does_not_exist_for_any_operation",
        verdict=STRICTER,
        remark="At once, and not within 60 seconds.",
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
        "contract/test_fifo::test_a_purge_forgets_deduplication_ids_too",
        verdict=STRICTER,
        remark="At once, and not within 60 seconds.",
    ),
    row(
        "ReceiveMessage",
        "contract/test_receive::test_a_received_message_is_hidden_and_comes_back_after_its_timeout",
        "crash/test_kill::test_acknowledged_is_durable_and_one_consumer_at_a_time_through_twenty_kills",
        "queues/test_standard::test_a_message_that_was_received_more_often_returns_to_the_back",
        verdict=STRICTER,
        remark="No other receive returns a message before its timeout ends, also after a crash; AWS "
        "promises that for FIFO queues only. On a standard queue a message that was received three "
        "times or more goes to the back, as AWS documents it.",
    ),
    row(
        "RemovePermission",
        "contract/test_tags_and_permissions::test_removing_the_last_permission_removes_the_policy",
    ),
    row(
        "SendMessage",
        "crash/test_kill::test_acknowledged_is_durable_and_one_consumer_at_a_time_through_twenty_kills",
        _DISK,
        verdict=DIFFERENT,
        remark="Answered when it is on the disk. Refused with 503, which SDKs retry, while less than "
        f"{LogSettings().reserve_bytes >> 20} MiB of the disk are free (`--log.reserve-bytes`).",
    ),
    row(
        "SendMessageBatch",
        "contract/test_send_batch::test_an_entry_that_cannot_be_sent_fails_alone",
        "backend/test_shard::test_a_nearly_full_disk_takes_deletes_and_no_sends",
        verdict=DIFFERENT,
        remark="Refused while the disk is nearly full, as SendMessage is: both are one command.",
    ),
    row(
        "SetQueueAttributes",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
        "contract/test_queue_attributes::test_the_queues_own_maximum_size_holds",
        verdict=STRICTER,
        remark="Takes effect at once, and not within 60 seconds.",
    ),
    row(
        "StartMessageMoveTask",
        "crash/test_move_tasks::test_a_move_goes_on_through_kills_and_each_message_is_in_one_place",
        "contract/test_move_tasks::test_without_a_destination_dead_letters_go_back_as_new_messages",
        verdict=STRICTER,
        remark="Goes on after a restart, and moves each message exactly once. Some texts of refusals are not AWS's.",
    ),
    row("TagQueue", "contract/test_tags_and_permissions::test_a_bad_tag_is_refused_and_no_other_is_added"),
    row(
        "UntagQueue", "contract/test_tags_and_permissions::test_removing_a_tag_that_is_not_there_is_no_error"
    ),
]

_COUNTS = "contract/test_queue_attributes::test_counts_tell_visible_in_flight_and_delayed_messages_apart"
DEFAULTS = "contract/test_queue_attributes::test_a_new_queue_has_all_defaults"
_FIFO = "contract/test_fifo::test_every_attribute_of_a_fifo_queue_is_shown_with_its_default"

QUEUE_ATTRIBUTES = [
    row("All", DEFAULTS),
    row(
        "ApproximateNumberOfMessages ApproximateNumberOfMessagesNotVisible ApproximateNumberOfMessagesDelayed",
        _COUNTS,
        "contract/test_fifo::test_a_delayed_message_does_not_block_its_group_and_the_delay_holds_for_earlier_ones_too",
        verdict=STRICTER,
        remark="Exact, except that expired messages may be counted for a while, and that of a FIFO queue, where delays "
        "are the queue's, the delayed ones are told by when they were sent.",
    ),
    row(
        "ContentBasedDeduplication",
        "contract/test_fifo::test_contents_are_the_body_alone_and_an_explicit_id_goes_before_them",
        _FIFO,
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
        "contract/test_fifo::test_a_delayed_message_does_not_block_its_group_and_the_delay_holds_for_earlier_ones_too",
        remark="Of a FIFO queue, a changed delay holds for earlier messages too.",
    ),
    row("FifoQueue", "contract/test_fifo::test_a_queue_does_not_change_its_type", _FIFO),
    row(
        "FifoThroughputLimit",
        "contract/test_fifo_refusals::test_a_limit_of_throughput_by_groups_needs_deduplication_by_groups",
        _FIFO,
        verdict=DIFFERENT,
        remark="Validated, stored and shown. No queue is throttled to 300 calls a second.",
    ),
    row(
        "KmsMasterKeyId KmsDataKeyReusePeriodSeconds",
        "contract/test_queue_attributes::test_a_kms_key_switches_the_other_encryption_off_and_it_stays_off",
        verdict=DIFFERENT,
        remark="Validated, stored and shown by AWS's rules. No key service is asked, and nothing is encrypted with it.",
    ),
    row("MaximumMessageSize", "contract/test_queue_attributes::test_the_queues_own_maximum_size_holds"),
    row(
        "MessageRetentionPeriod",
        "contract/test_clock::test_a_shorter_retention_period_drops_messages_that_are_there",
    ),
    row(
        "Policy",
        "contract/test_tags_and_permissions::test_a_policy_is_echoed_exactly_as_it_was_sent",
        verdict=DIFFERENT,
        remark="Validated, stored and shown, and not enforced yet: every key of the account may do everything.",
    ),
    row("QueueArn", DEFAULTS),
    row(
        "ReceiveMessageWaitTimeSeconds",
        "contract/test_queue_attributes::test_the_queues_wait_time_holds_for_receives_without_one",
    ),
    row("RedriveAllowPolicy", "contract/test_redrive_policies::test_a_dead_letter_queue_says_whose_it_is"),
    row(
        "RedrivePolicy",
        "crash/test_dead_letters::test_each_dead_letter_is_in_one_place_through_ten_kills",
        "contract/test_redrive_policies::test_a_redrive_policy_is_echoed_as_it_was_given_and_removed_by_an_empty_one",
        "contract/test_dead_letters::test_a_message_moves_on_the_receive_that_would_exceed_its_limit_and_not_before",
        "frontend/test_dead_letters::test_a_dead_letter_of_a_fifo_queue_is_as_old_as_its_stay_in_the_dead_letter_queue",
        verdict=STRICTER,
        remark="Shown as it was sent. Each letter moves exactly once, on the receive that would exceed its limit. "
        "Its age goes on, and in FIFO queues begins again.",
    ),
    row(
        "SqsManagedSseEnabled",
        "contract/test_queue_attributes::test_both_encryptions_at_once_are_refused",
        "contract/test_queue_attributes::test_a_kms_key_switches_the_other_encryption_off_and_it_stays_off",
        DEFAULTS,
        verdict=DIFFERENT,
        remark="Stored and shown by AWS's rules, true by default. Nothing is encrypted at rest yet.",
    ),
    row(
        "VisibilityTimeout",
        "contract/test_queue_attributes::test_the_queues_visibility_timeout_holds_for_receives_without_one",
    ),
]

_TELLS = "contract/test_send::test_a_message_tells_who_sent_it_when_and_how_often_it_was_received"

SYSTEM_ATTRIBUTES = [
    row(
        "AWSTraceHeader",
        "contract/test_send::test_a_trace_header_of_the_request_is_received",
        "contract/test_send::test_a_trace_header_sent_as_system_attribute_is_received",
    ),
    row(
        "All",
        "contract/test_message_attributes::test_system_attributes_are_asked_for_by_their_old_and_their_new_member",
    ),
    row(
        "ApproximateFirstReceiveTimestamp ApproximateReceiveCount SentTimestamp",
        _TELLS,
        "queues/test_standard::test_a_message_tells_when_it_was_sent_and_first_received_and_how_often",
        verdict=STRICTER,
        remark="Exact, not approximate.",
    ),
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
        "queues/test_fairness::test_a_tenant_that_has_had_most_of_the_consumers_time_is_served_after_quiet_ones",
        "queues/test_fairness::test_messages_without_a_group_are_never_noisy_and_never_wait_for_each_other",
        "contract/test_send::test_a_message_group_is_taken_on_a_standard_queue_and_given_back",
        verdict=DIFFERENT,
        remark="On standard queues (fair queues) tenants with the fewest messages in flight go first, whether noisy or not; "
        "AWS says so of noisy ones. Messages without a group are never noisy.",
    ),
    row("SenderId", _TELLS, verdict=DIFFERENT, remark="The account's number: there are no users yet."),
    row("SequenceNumber", "contract/test_fifo::test_a_sequence_number_has_20_digits_and_rises"),
]

ERRORS = [
    row(
        "AccessDeniedException",
        verdict=DIFFERENT,
        remark="never: policies are not enforced yet",
    ),
    row(
        "InvalidAction",
        "contract/test_query::test_an_action_that_a_queue_does_not_have_is_not_valid_there",
        remark="an action of the Query protocol that is not served at that path",
    ),
    row(
        "InvalidQueryParameter NoSuchVersion",
        "contract/test_query::test_a_form_that_means_nothing_is_refused_in_xml",
        remark="only in Query: a form that cannot be read, or is for another version of the API",
    ),
    row(
        "OverLimit",
        "contract/test_clock::test_a_short_poll_is_over_its_limit_when_120_000_messages_are_in_flight",
        "frontend/test_move_runner::test_an_account_has_a_hundred_moves_at_a_time_also_when_all_come_at_once",
        verdict=DIFFERENT,
        remark="the texts about messages in flight and about running moves are not AWS's",
    ),
    row(
        "RequestExpired",
        "frontend/test_auth_dates::test_a_presigned_url_is_good_until_it_expires",
        remark="a presigned URL past its end",
    ),
    row(
        "SerializationException",
        "contract/test_errors_on_the_wire::test_what_is_no_json_object_is_refused_without_repeating_it",
        "contract/test_errors_on_the_wire::test_a_member_of_another_type_is_refused",
        verdict=DIFFERENT,
        remark="only in AWS JSON; the text is not AWS's",
    ),
    row(
        "ServiceUnavailable",
        _DISK,
        "crash/test_damage::test_a_record_damaged_while_the_server_runs_is_refused_and_the_node_says_so",
        "frontend/test_app::test_a_node_that_cannot_serve_now_answers_503_and_takes_the_blame",
        verdict=DIFFERENT,
        remark="also when the disk is nearly full, or damaged; SDKs try again",
    ),
    row(
        "UnknownOperationException",
        "contract/test_errors_on_the_wire::test_an_unknown_operation_is_status_404",
        "contract/test_query::test_a_visit_without_an_action_is_an_unknown_operation_in_xml",
        remark="no such operation, or none named",
    ),
]


def about(name: str, *tests: str, verdict: str = DIFFERENT, remark: str) -> Row:
    """A row about the service as a whole, which no model names."""
    return Row((name,), tests, verdict, remark)


GENERAL = [
    about(
        "signatures",
        "frontend/test_auth::test_other_versions_of_signatures_are_refused_with_the_one_to_use",
        "contract/test_errors_on_the_wire::test_nobody_learns_of_a_queue_without_a_signature",
        verdict=SAME,
        remark="Signature Version 4 and no other, in headers and presigned URLs.",
    ),
    about(
        "credentials",
        "frontend/test_auth::test_a_session_token_with_a_lasting_key_is_refused",
        remark="Lasting access keys only: no temporary credentials, users or roles.",
    ),
    about(
        "accounts",
        "contract/test_queues::test_a_queue_of_another_owner_does_not_exist",
        remark="One account. A queue of another one does not exist.",
    ),
    about(
        "regions",
        "frontend/test_auth::test_any_region_is_served",
        remark="One region in ARNs. Requests that are signed for another are served as well.",
    ),
    about(
        "HTTPS",
        "clients/test_aws_cli::test_it_speaks_tls_to_a_server_whose_certificate_it_was_given",
        "contract/test_send::test_a_message_arrives_as_it_was_sent",
        remark="Offered, and not demanded: without a certificate the port speaks plain HTTP.",
    ),
    about(
        "queue URLs",
        "contract/test_queues::test_a_queue_url_is_the_host_the_client_used_and_account_and_name",
        "contract/test_queues::test_a_queue_is_named_by_a_url_with_any_host_by_its_path_or_by_its_bare_name",
        remark="They have the host that the client used, or `--public-url`. Any host is taken, a path, or a bare name.",
    ),
    about(
        "rates",
        remark="No rate is limited: neither FIFO queues to 300 calls a second nor changes of tags to 30. There is no test "
        "that nothing happens.",
    ),
    about(
        "look-ahead of FIFO queues",
        "queues/test_fifo::test_a_receive_looks_at_no_group_that_is_blocked",
        "queues/test_fifo::test_a_group_in_flight_does_not_keep_others_from_being_loaded",
        remark="Every message group is found, whatever waits before it; AWS looks at the first 120,000 messages only.",
    ),
    about(
        "queues over several shards",
        "contract/test_parts::test_the_tag_is_read_when_a_queue_is_created_and_shown_like_any_other",
        "contract/test_parts::test_only_a_fifo_queue_that_is_by_group_in_everything_has_several_parts",
        "frontend/test_partitions::test_the_number_of_parts_never_changes",
        "frontend/test_parts_properties::test_nothing_is_lost_given_twice_or_hidden_from_who_asks",
        "frontend/test_parts_properties::test_messages_of_a_group_come_in_the_order_in_which_they_were_sent",
        remark="AWS partitions queues by itself. Here CreateQueue reads the tag `waystation:partitions`, 1 to 64 and at most the "
        "number of shards (`--service.partitions` for standard queues without it), and it never changes afterwards. A FIFO queue "
        "can have more than one only with DeduplicationScope messageGroup and FifoThroughputLimit perMessageGroupId. Each partition "
        "has its own limit of messages in flight, its own turn among tenants (fair queues) and its own order; a SequenceNumber grows within a message "
        "group. A ReceiveRequestAttemptId repeats what was there at once, not what a long poll has waited for. When a long "
        "poll is handed messages by several partitions at once, it gives back what it cannot take, and their ApproximateReceiveCount has "
        "grown by one, as it counts for maxReceiveCount. A partition that does not answer makes a receive fail with 503 once the others "
        "are empty.",
    ),
    about(
        "metrics",
        remark="Not served: there is no CloudWatch. `GET /health` and the counts of GetQueueAttributes are there.",
    ),
]
