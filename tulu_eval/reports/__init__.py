"""Tables and pages; reads results, computes nothing new."""
