"""The client side: images, training, the ClientApp, and the node that serves it."""
