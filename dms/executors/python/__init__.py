"""The executor for Python: programs, and functions that are called from elsewhere, with the packages the machine's owner chose."""
