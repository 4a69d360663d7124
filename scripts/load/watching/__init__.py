"""What the fleet does meanwhile, seen from outside."""
