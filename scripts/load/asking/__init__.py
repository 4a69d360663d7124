"""The generator: clients that ask when their requests are due, in several processes."""
