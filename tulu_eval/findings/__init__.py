"""What follows from runs: agreement with published cells, comparisons, audits, sizes, and the table of all."""
