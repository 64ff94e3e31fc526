"""The command line. Each command imports its code when it runs, so that help and refusals come at once."""
