"""The rows of every constant in `protocol/limits.py`; see `rows`."""

# ruff: noqa: E501  (names of tests are sentences)

from __future__ import annotations

from tests.compatibility.rows import DEFAULTS, DIFFERENT, row
from waystation.queues.attempts import ATTEMPTS_MAX

LIMITS = [
    row(
        "ATTRIBUTE_NAME_LENGTH_MAX",
        "contract/test_message_attributes::test_other_attribute_names_are_refused",
        "contract/test_message_attributes::test_attribute_names_of_letters_digits_hyphens_underscores_and_periods_are_taken",
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
    row(
        "BATCH_ENTRY_ID_PATTERN",
        "contract/test_send_batch::test_an_odd_id_refuses_the_whole_batch",
        "contract/test_send_batch::test_an_id_of_80_characters_is_taken",
    ),
    row(
        "CLIENT_ID_LENGTH_MAX CLIENT_ID_PATTERN",
        "contract/test_fifo_refusals::test_ids_of_128_letters_digits_and_punctuation_are_taken",
        "contract/test_fifo::test_an_id_is_1_to_128_letters_digits_and_punctuation",
    ),
    row(
        "DEDUPLICATION_WINDOW_S",
        "queues/test_fifo_repeats::test_five_minutes_after_the_first_message_its_deduplication_id_may_be_used_again",
        "contract/test_fifo::test_deduplication_survives_deletion_and_spans_groups",
    ),
    row(
        "DELAY_S_DEFAULT DELAY_S_MAX",
        "contract/test_send::test_a_delay_outside_0_to_900_seconds_is_refused",
        "contract/test_send::test_the_longest_delay_is_taken",
        DEFAULTS,
    ),
    row(
        "FIFO_QUEUE_NAME_PATTERN FIFO_SUFFIX",
        "contract/test_fifo_refusals::test_the_name_of_a_fifo_queue_ends_with_fifo_and_has_up_to_80_characters",
    ),
    row(
        "FORBIDDEN_TEXT_PATTERN MESSAGE_TEXT_PATTERN",
        "contract/test_send::test_any_other_character_is_refused",
        "contract/test_send::test_every_character_of_xml_may_be_in_a_body",
    ),
    row(
        "IN_FLIGHT_FIFO_MAX IN_FLIGHT_STANDARD_MAX",
        "contract/test_clock::test_a_short_poll_is_over_its_limit_when_120_000_messages_are_in_flight",
        "frontend/test_message_service::test_a_fifo_queue_with_too_many_in_flight_gives_nothing_and_no_error",
        remark="Past it a short poll of a standard queue is refused; a long poll, and a FIFO queue, give nothing.",
    ),
    row(
        "KMS_KEY_REUSE_S_DEFAULT KMS_KEY_REUSE_S_MAX KMS_KEY_REUSE_S_MIN",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
        "contract/test_queue_attributes::test_a_kms_key_switches_the_other_encryption_off_and_it_stays_off",
    ),
    row("LIST_RESULTS_MAX LIST_RESULTS_MIN", "contract/test_queues::test_a_page_has_1_to_1000_queues"),
    row("MESSAGE_ATTRIBUTES_MAX", "contract/test_message_attributes::test_a_message_has_up_to_10_attributes"),
    row(
        "MESSAGE_BYTES_DEFAULT MESSAGE_BYTES_MAX MESSAGE_BYTES_MIN",
        "contract/test_send::test_a_message_of_the_largest_size_is_taken_and_one_byte_more_is_refused",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
        DEFAULTS,
    ),
    row(
        "MOVE_RATE_MAX MOVE_TASK_RESULTS_DEFAULT MOVE_TASK_RESULTS_MAX MOVE_TASK_RESULTS_MIN",
        "contract/test_move_tasks::test_what_cannot_be_is_refused",
        "frontend/test_move_service::test_a_rate_is_from_1_to_500",
        "frontend/test_move_service::test_at_most_ten_tasks_are_listed",
        "frontend/test_move_service::test_the_newest_task_comes_first_and_is_the_only_one_unless_more_are_asked_for",
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
        "contract/test_name_reuse::test_a_name_is_free_after_the_time_that_is_configured",
        remark="`--service.name-reuse-s 0` turns it off.",
    ),
    row(
        "QUEUE_NAME_LENGTH_MAX QUEUE_NAME_PATTERN",
        "contract/test_queues::test_a_queue_name_has_up_to_80_characters",
        "contract/test_queues::test_other_queue_names_are_refused",
    ),
    row(
        "RECEIVE_ATTEMPT_S",
        "queues/test_attempts::test_an_attempt_has_its_messages_again_for_five_minutes",
        "queues/test_attempts::test_the_oldest_attempts_are_forgotten_when_there_are_too_many",
        verdict=DIFFERENT,
        remark=f"The last {ATTEMPTS_MAX:,} attempts of a queue are remembered, and no more.",
    ),
    row(
        "RECEIVE_COUNT_MAX RECEIVE_COUNT_MIN",
        "contract/test_redrive_policies::test_a_message_is_received_1_to_1000_times",
    ),
    row(
        "RECEIVE_MESSAGES_DEFAULT RECEIVE_MESSAGES_MAX RECEIVE_MESSAGES_MIN",
        "contract/test_receive::test_1_to_10_messages_can_be_asked_for",
        "contract/test_receive::test_a_receive_gives_one_message_unless_more_are_asked_for",
    ),
    row("REDRIVE_ALLOW_SOURCES_MAX", "frontend/test_redrive::test_by_queue_lists_1_to_10_sources"),
    row(
        "RETENTION_S_DEFAULT RETENTION_S_MAX RETENTION_S_MIN",
        "contract/test_queue_attributes::test_a_number_is_taken_within_its_range_and_refused_outside",
        DEFAULTS,
    ),
    row(
        "TAGS_MAX TAG_KEY_LENGTH_MAX TAG_VALUE_LENGTH_MAX",
        "contract/test_queues::test_a_queue_is_created_with_up_to_50_tags_of_limited_length",
        "contract/test_tags_and_permissions::test_a_queue_has_at_most_50_tags",
    ),
    row(
        "VISIBILITY_TIMEOUT_S_DEFAULT VISIBILITY_TIMEOUT_S_MAX",
        "contract/test_clock::test_a_message_is_hidden_for_12_hours_from_its_receive_at_most",
        "contract/test_receipts::test_a_timeout_is_0_to_43200_seconds",
        DEFAULTS,
    ),
    row("WAIT_S_DEFAULT WAIT_S_MAX", "contract/test_receive::test_a_receive_waits_0_to_20_seconds", DEFAULTS),
]
