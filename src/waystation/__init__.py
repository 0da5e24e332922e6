"""Waystation: a self-hosted, durable message queue that speaks the Amazon SQS API."""

__version__ = "0.1.0"
