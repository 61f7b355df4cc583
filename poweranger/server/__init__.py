"""The server side: handshake, rounds, strategy, and the SuperLink in this process."""
