"""The command line: settings, and the commands that build and run a node."""
