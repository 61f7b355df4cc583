# An NVFlare job in its simulator: federated averaging of NumPy weights. Arguments: clients, rounds, first weights, folder.
import sys
from pathlib import Path

from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv

if __name__ == "__main__":
    clients, rounds, first, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    recipe = NumpyFedAvgRecipe(name="study", initial_ckpt=first, min_clients=clients, num_rounds=rounds,
                               train_script=str(Path(__file__).with_name("client.py")))
    recipe.execute(SimEnv(clients=[f"C{number}" for number in range(1, clients + 1)], workspace_root=folder))
