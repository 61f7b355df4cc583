"""The same federated training on other systems, and the processes that this project is compared with."""
