"""``make chaos``: sell while workers, replicas and servers are killed, then audit the books."""
