"""The command line: settings, and the commands that run a node, copy its data and check it."""
