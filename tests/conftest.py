"""One thread per worker where several share the machine (`pytest -n 2`)."""

from __future__ import annotations

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
