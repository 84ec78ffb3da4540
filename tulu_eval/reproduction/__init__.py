"""From preference data to a verified row of a table, end to end and small."""
