# A plain Flower ServerApp: federated averaging from given weights; those after each round are written to a folder.
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    clients, folder = config["clients"], Path(config["folder"])

    def save(number: int, arrays: ArrayRecord) -> None:
        if number:
            np.save(folder / f"round_{number:03d}.npy", arrays.to_numpy_ndarrays()[0])

    strategy = FedAvg(min_train_nodes=clients, min_evaluate_nodes=clients, min_available_nodes=clients)
    strategy.start(grid, ArrayRecord([np.load(config["first"])]), num_rounds=config["rounds"], evaluate_fn=save)
