"""Federated training of an image classifier over sites that keep their images."""
import sys

if "flwr.cli.app" in sys.modules or (sys.argv[:1] and sys.argv[0].endswith("flwr-simulation")):
    from poweranger import flwr_run

    flwr_run.prepare()
