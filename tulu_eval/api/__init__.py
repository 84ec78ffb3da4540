"""The Python door: what ``import tulu_eval`` offers, one file per verb.

A function here takes plain Python values (strings, paths, numbers, sequences), checks them, loads the suite, and returns a
typed record. It prints and logs nothing; with ``progress=True`` it draws bars. The command line parses words, calls one of
these functions and prints what it returned. ``tulu_eval/__init__.py`` fetches each name from here when it is first used.
"""
