"""The files of a run folder, as typed records: manifest, ledger of samples, result, digests; and what identifies a run."""
