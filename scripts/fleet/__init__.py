"""``make fleet``: replicas behind nginx on this machine, as a deployment has them."""
