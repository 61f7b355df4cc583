"""Federated training of an image classifier over sites that keep their images."""
