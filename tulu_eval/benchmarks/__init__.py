"""One file per benchmark; benchmarks are pure: no model, no tokenizer, no device."""
