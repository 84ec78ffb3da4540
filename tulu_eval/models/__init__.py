"""What ``--model`` means: a name resolved to files or a server, its tokenizer, template and end tokens; no weight is loaded."""
