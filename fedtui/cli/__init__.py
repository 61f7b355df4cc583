"""The command line: a command is a function in the file of its subject."""
