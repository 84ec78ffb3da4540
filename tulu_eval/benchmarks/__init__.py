"""One file a benchmark; pure: no model, no tokenizer, no device."""
