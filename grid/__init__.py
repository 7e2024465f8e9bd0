"""Many runs from one file: every model on every dataset with every seed, each a process of its own."""
