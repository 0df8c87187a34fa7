"""The built-in programs, a folder each. The node imports nothing of them: their files travel as they are."""
