"""Code you did not write: a strict policy, and isolation by the operating system."""
