"""What does ten times the traffic need? A model of the fleet, its coefficients measured here."""
