"""Tables and pages: formats the fields of results and computes nothing new."""
