"""How ``explain`` finds the settings behind a gap: both sides, trials of changes, their evidence, and the verdict."""
