"""One folder per engine; backends know prompts and tokens, never benchmarks."""
