# The same training on the images of all clients, in one process that has all cores. Arguments: clients, rounds, first weights, folder.
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.site import ROUND, Site

if __name__ == "__main__":
    clients, rounds, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[4])
    site = Site(*(f"C{number}" for number in range(1, clients + 1)), threads=os.cpu_count() or 1)
    weights = np.load(sys.argv[3])
    for number in range(1, rounds + 1):
        weights = site.train(weights, number).weights
        site.evaluate(weights)
        np.save(folder / ROUND.format(number), weights)
