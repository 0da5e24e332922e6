"""Access policies of queues: what a document may look like, and how permissions come into one.

Reads and writes documents. Never decides who may do what, and never changes a
document that a client has sent: that is kept and shown as the text it was.

Source: IAM User Guide, "Grammar of the IAM JSON policy language"; SQS Developer
Guide, "policy quotas"; recorded responses for what AddPermission writes and refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from waystation.frontend.arns import QueueArn
from waystation.protocol import limits
from waystation.protocol.errors import (
    InvalidAttributeValue,
    InvalidParameterValue,
    OverLimit,
)
from waystation.protocol.operations import OPERATIONS

_LABEL = re.compile(rf"[A-Za-z0-9_-]{{1,{limits.PERMISSION_LABEL_LENGTH_MAX}}}\Z")
_ACCOUNT = re.compile(r"[0-9]{12}\Z")
_ACTION = re.compile(r"\*\Z|sqs:([a-z*?]+)\Z", re.IGNORECASE | re.ASCII)
_VERSION: Literal["2008-10-17"] = "2008-10-17"
"""Of the documents that AddPermission writes. RECORDED."""

OWNER_ONLY = frozenset(
    {
        "AddPermission",
        "CancelMessageMoveTask",
        "CreateQueue",
        "DeleteQueue",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "ListQueues",
        "RemovePermission",
        "SetQueueAttributes",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    }
)
"""Actions that no policy opens to other accounts. BOTO: "Cross-account permissions don't apply"."""
_KNOWN_ACTIONS = frozenset(name.lower() for name in OPERATIONS)

_Texts: TypeAlias = str | list[str]
_Principals: TypeAlias = Literal["*"] | dict[Literal["AWS", "Service", "Federated", "CanonicalUser"], _Texts]
_Operands: TypeAlias = str | int | float | bool | list[str | int | float | bool]


class _Statement(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, kw_only=True):
    sid: str | UnsetType = UNSET
    effect: Literal["Allow", "Deny"]
    principal: _Principals | UnsetType = UNSET
    not_principal: _Principals | UnsetType = UNSET
    action: _Texts | UnsetType = UNSET
    not_action: _Texts | UnsetType = UNSET
    resource: _Texts | UnsetType = UNSET
    not_resource: _Texts | UnsetType = UNSET
    condition: dict[str, dict[str, _Operands]] = {}


class _Policy(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, kw_only=True):
    version: Literal["2008-10-17", "2012-10-17"] = _VERSION
    id: str = ""
    statement: _Statement | list[_Statement]


# Documents that clients send


def check_policy(text: str) -> None:
    """Validate the attribute `Policy`.

    Raises:
        InvalidAttributeValue: it is no policy of a queue, or longer than 8,192 bytes.
        OverLimit: it has too many statements, principals, conditions, or actions in one statement.
    """
    if len(text.encode()) > limits.POLICY_BYTES_MAX:
        raise InvalidAttributeValue.of("Policy")
    try:
        policy = msgspec.json.decode(text, type=_Policy)
    except (msgspec.MsgspecError, RecursionError):
        raise InvalidAttributeValue.of("Policy") from None
    statements = policy.statement if isinstance(policy.statement, list) else [policy.statement]
    sids = [statement.sid for statement in statements if statement.sid]
    if len(set(sids)) != len(sids) or not all(map(_is_complete, statements)):
        raise InvalidAttributeValue.of("Policy")
    _check_limits(statements)


def _is_complete(statement: _Statement) -> bool:
    pairs = (
        (statement.principal, statement.not_principal),
        (statement.action, statement.not_action),
        (statement.resource, statement.not_resource),
    )
    if any((one is UNSET) is (other is UNSET) for one, other in pairs):
        return False
    texts = [*_principals(statement), *_actions(statement)]
    texts += _texts(statement.resource) or _texts(statement.not_resource)
    return all(texts) and all(map(_is_action, _actions(statement)))


def _is_action(action: str) -> bool:
    match = _ACTION.match(action)
    if match is None:
        return False
    name = match[1]
    return name is None or "*" in name or "?" in name or name.lower() in _KNOWN_ACTIONS


def _check_limits(statements: Sequence[_Statement]) -> None:
    _check_count("Statements", len(statements), limits.POLICY_STATEMENTS_MAX)
    for statement in statements:
        _check_count("Actions", len(_actions(statement)), limits.POLICY_ACTIONS_PER_STATEMENT_MAX)
    principals = sum(len(_principals(statement)) for statement in statements)
    _check_count("Principals", principals, limits.POLICY_PRINCIPALS_MAX)
    conditions = sum(len(keys) for statement in statements for keys in statement.condition.values())
    _check_count("Conditions", conditions, limits.POLICY_CONDITIONS_MAX)


def _check_count(what: str, count: int, allowed: int) -> None:
    # The text for actions is AWS's; that for the others follows it.
    if count > allowed:
        raise OverLimit(f"{count} {what} were found, maximum allowed is {allowed}.")


def _principals(statement: _Statement) -> list[str]:
    principals = statement.not_principal if statement.principal is UNSET else statement.principal
    if isinstance(principals, dict):
        return [text for texts in principals.values() for text in _texts(texts)]
    return _texts(principals)


def _actions(statement: _Statement) -> list[str]:
    return _texts(statement.action) or _texts(statement.not_action)


def _texts(texts: _Texts | UnsetType) -> list[str]:
    if isinstance(texts, UnsetType):
        return []
    return texts if isinstance(texts, list) else [texts]


# Permissions: statements that the server writes


def check_permission(label: str, accounts: Sequence[str], actions: Sequence[str]) -> None:
    """Validate what a client wants to permit.

    Args:
        label: names the permission.
        accounts: whom; owners are twelve digits.
        actions: what, by the names of operations, or `*`.

    Raises:
        InvalidParameterValue: a label, account or action that cannot be.
        OverLimit: there are more than seven.
    """
    if not _LABEL.match(label):
        reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length."
        raise InvalidParameterValue.of(label, "Label", reason)
    strangers = [account for account in accounts if not _ACCOUNT.match(account)]
    if strangers:
        raise InvalidParameterValue.of(f"[{', '.join(strangers)}]", "PrincipalId", "Unable to verify.")
    _check_count("Actions", len(actions), limits.POLICY_ACTIONS_PER_STATEMENT_MAX)
    for action in actions:
        if action in OWNER_ONLY:
            reason = "Only the queue owner is allowed to invoke this action."
            raise InvalidParameterValue.of(f"SQS:{action}", "ActionName", reason)
        if action != "*" and action not in OPERATIONS:
            # The blank at the end is AWS's.
            reason = "Please refer to the appropriate WSDL for a list of valid actions. "
            raise InvalidParameterValue.of(f"SQS:{action}", "ActionName", reason)


def add_permission(
    policy: str, queue: QueueArn, label: str, accounts: Sequence[str], actions: Sequence[str]
) -> str:
    """Write a permission that `check_permission` has passed into a queue's policy.

    Args:
        policy: the document so far, one that `check_policy` has passed; empty if there is none.
        queue: what it is about.
        label: the name of the permission, its `Sid` in the document.
        accounts: whom to permit.
        actions: what to permit.

    Raises:
        InvalidParameterValue: the label is taken.
        OverLimit: the document would be more than a policy may be.
    """
    document = _read(policy) if policy else {"Version": _VERSION, "Id": f"{queue}/SQSDefaultPolicy"}
    statements = _statements(document)
    if label in _sids(statements):
        raise InvalidParameterValue.of(label, "Label", "Already exists.")
    statements.append(
        {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": _one_or_more(f"arn:aws:iam::{account}:root" for account in accounts)},
            "Action": _one_or_more(f"SQS:{action}" for action in actions),
            "Resource": str(queue),
        }
    )
    written = _write(document, statements)
    _check_count("Bytes", len(written.encode()), limits.POLICY_BYTES_MAX)
    check_policy(written)
    return written


def remove_permission(policy: str, label: str) -> str:
    """Take a permission out of a queue's policy; empty if nothing is left of it.

    Raises:
        InvalidParameterValue: there is no such permission.
    """
    document = _read(policy) if policy else {}
    statements = _statements(document)
    left = [statement for statement in statements if statement.get("Sid") != label]
    if len(left) == len(statements):
        raise InvalidParameterValue.of(label, "Label", "can't find label.")
    return _write(document, left) if left else ""


def _read(policy: str) -> dict[str, Any]:
    return msgspec.json.decode(policy, type=dict[str, Any])


def _write(document: dict[str, Any], statements: list[dict[str, Any]]) -> str:
    return msgspec.json.encode({**document, "Statement": statements}).decode()


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    statements = document.get("Statement", [])
    return list(statements) if isinstance(statements, list) else [statements]


def _sids(statements: list[dict[str, Any]]) -> set[str]:
    return {statement.get("Sid", "") for statement in statements}


def _one_or_more(texts: Iterable[str]) -> _Texts:
    """As AWS writes them: a text for a single one, and a list for several."""
    found = list(texts)
    return found[0] if len(found) == 1 else found
