"""What a training leaves on the disk: checkpoints to resume from, and the model for transformers and vLLM."""
