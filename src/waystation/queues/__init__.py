"""The pure state machine of queues and messages: no I/O, no clock, no randomness."""
