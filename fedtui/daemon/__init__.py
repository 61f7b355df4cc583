"""The daemon: owns server and clients of one project folder, and answers on a Unix socket. `run.run` is all of it."""
