"""One file an engine; knows prompts and tokens, never benchmarks."""
