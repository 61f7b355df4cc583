"""The real client host, but its forks play a part: `actor.py` in place of TensorFlow and the client."""
from __future__ import annotations

import os
import runpy
import socket
import sys

from poweranger.client import host, standalone_client

standalone_client.limit_process(1)
import numpy  # noqa: E402, F401

if host.serve(socket.socket(fileno=os.dup(0))):
    runpy.run_path(sys.argv[0], run_name="__main__")
