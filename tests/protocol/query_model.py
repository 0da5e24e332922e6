"""The Query model of SQS, which botocore no longer has, rebuilt from its JSON model.

Written down independently of the code under test: the names are those of the last
published Query model of 2012-11-05, by the list, map or member that has them.
"""

from __future__ import annotations

import copy
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

ELEMENT_NAMES = {
    "AWSAccountIdList": "AWSAccountId",
    "ActionNameList": "ActionName",
    "AttributeNameList": "AttributeName",
    "BatchResultErrorEntryList": "BatchResultErrorEntry",
    "BinaryList": "BinaryListValue",
    "ChangeMessageVisibilityBatchRequestEntryList": "ChangeMessageVisibilityBatchRequestEntry",
    "ChangeMessageVisibilityBatchResultEntryList": "ChangeMessageVisibilityBatchResultEntry",
    "DeleteMessageBatchRequestEntryList": "DeleteMessageBatchRequestEntry",
    "DeleteMessageBatchResultEntryList": "DeleteMessageBatchResultEntry",
    "ListMessageMoveTasksResultEntryList": "ListMessageMoveTasksResultEntry",
    "MessageAttributeNameList": "MessageAttributeName",
    "MessageList": "Message",
    "MessageSystemAttributeList": "MessageSystemAttributeName",
    "QueueUrlList": "QueueUrl",
    "SendMessageBatchRequestEntryList": "SendMessageBatchRequestEntry",
    "SendMessageBatchResultEntryList": "SendMessageBatchResultEntry",
    "StringList": "StringListValue",
    "TagKeyList": "TagKey",
}
MAPS = {
    "MessageBodyAttributeMap": ("MessageAttribute", "Name"),
    "MessageBodySystemAttributeMap": ("MessageSystemAttribute", "Name"),
    "MessageSystemAttributeMap": ("Attribute", "Name"),
    "QueueAttributeMap": ("Attribute", "Name"),
    "TagMap": ("Tag", "Key"),
}
"""What one entry is called, and its key."""

ERROR_CODES = {
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
}
"""Of errors whose code in Query is not their name."""


def _model(protocol: str) -> dict[str, Any]:
    model: dict[str, Any] = copy.deepcopy(Loader().load_service_model("sqs", "service-2"))
    model["metadata"] |= {"protocol": protocol, "protocols": [protocol]}
    del model["metadata"]["awsQueryCompatible"]
    return model


def query_model() -> dict[str, Any]:
    model = _model("query")
    model["metadata"]["xmlNamespace"] = "http://queue.amazonaws.com/doc/2012-11-05/"
    for shape in model["shapes"].values():
        for member in shape.get("members", {}).values():
            if member["shape"] in MAPS:
                member["locationName"] = MAPS[member["shape"]][0]
    for name, element in ELEMENT_NAMES.items():
        model["shapes"][name]["flattened"] = True
        model["shapes"][name]["member"]["locationName"] = element
    for name, (_, key) in MAPS.items():
        model["shapes"][name]["flattened"] = True
        model["shapes"][name]["key"]["locationName"] = key
        model["shapes"][name]["value"]["locationName"] = "Value"
    for name, operation in model["operations"].items():
        if "output" in operation:
            operation["output"]["resultWrapper"] = f"{name}Result"
    for name, code in ERROR_CODES.items():
        model["shapes"][name]["error"] = {"code": code, "senderFault": True}
    missing = {
        name
        for name, shape in model["shapes"].items()
        if shape["type"] in ("list", "map") and name not in {**ELEMENT_NAMES, **MAPS}
    }
    assert not missing, "the model has new lists or maps"
    return model


def _nested_model() -> dict[str, Any]:
    """The same without names and without flattening: the other way to write lists and maps in Query."""
    model = _model("query")
    for shape in model["shapes"].values():
        shape.pop("flattened", None)
        for member in shape.get("members", {}).values():
            member.pop("flattened", None)
    return model


QUERY_SERVICE = ServiceModel(query_model(), "sqs")
NESTED_SERVICE = ServiceModel(_nested_model(), "sqs")
