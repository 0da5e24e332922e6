"""The web service: HTTP, authentication, validation, and dispatch to shards."""
