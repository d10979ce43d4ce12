"""`python -m latentode` is the command `latentode`."""

from __future__ import annotations

from latentode.cli import app

if __name__ == "__main__":
    app(prog_name="python -m latentode")
