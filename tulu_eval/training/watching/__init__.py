"""What is seen of a training while it runs: numbers per step, speed, kept rollouts and the probe, ranks that hang."""
