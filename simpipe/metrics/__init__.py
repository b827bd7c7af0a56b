"""Pure functions over arrays: what is measured, how sure it is, and what is conspicuous. No files."""
