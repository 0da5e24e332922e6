"""The catalogue of queues and its cache, over a compare-and-set store that can be watched."""
