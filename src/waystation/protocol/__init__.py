"""The SQS wire: operations, errors, limits and codecs, and no behaviour."""
