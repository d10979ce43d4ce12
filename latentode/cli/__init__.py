"""The command line: `latentode demo`."""

from latentode.cli.app import app

__all__ = ["app"]
