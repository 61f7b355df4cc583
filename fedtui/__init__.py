"""The control centre: a daemon that owns a federation's processes, and the command line that speaks to it."""
