"""The fused Gaussian log likelihood of the native library on tensors: no autograd, and nothing is checked."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from latentode.native.library import library


class _Problem(ctypes.Structure):
    """`latentode_gaussian` of kernels/gaussian_api.h."""

    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("is_double", "backward")],
        *[(name, ctypes.c_int64) for name in ("n_samples", "n_series", "n_times", "n_targets")],
        *[(name, ctypes.c_void_p) for name in ("params", "values", "mask", "noise", "log_lik")],
        *[(name, ctypes.c_void_p) for name in ("d_log_lik", "d_params", "d_noise")],
    ]


def gaussian_forward(params: Tensor, noise: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Log likelihood (K, N) of the observed cells.

    Parameters
    ----------
    params : Tensor (K, N, T, D)
        The means; on the CPU, float32 or float64, as the following.
    noise : Tensor (D,)
        Standard deviations.
    values : Tensor (N, T, D)
    mask : Tensor (N, T, D), bool
    """
    log_lik = params.new_empty(params.shape[:2])
    _run(params, noise, values, mask, log_lik, None, None, None)
    return log_lik


def gaussian_backward(
    d_log_lik: Tensor, params: Tensor, noise: Tensor, values: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of means and noise from the cotangent (K, N)."""
    d_params, d_noise = params.new_empty(params.shape), noise.new_empty(noise.shape)
    _run(params, noise, values, mask, None, d_log_lik.resolve_neg().contiguous(), d_params, d_noise)
    return d_params, d_noise


def _run(
    params: Tensor,
    noise: Tensor,
    values: Tensor,
    mask: Tensor,
    log_lik: Tensor | None,
    d_log_lik: Tensor | None,
    d_params: Tensor | None,
    d_noise: Tensor | None,
) -> None:
    given = [x if x.is_contiguous() else x.detach().contiguous() for x in (params, values, mask, noise)]
    results = [None if x is None else x.data_ptr() for x in (log_lik, d_log_lik, d_params, d_noise)]
    problem = _Problem(
        params.dtype == torch.float64,
        log_lik is None,
        *params.shape,
        *[x.data_ptr() for x in given],
        *results,
    )
    found = library()
    assert found is not None, "asked for native kernels that are not there"
    if found.latentode_run_gaussian(ctypes.byref(problem)):
        raise MemoryError("the native kernels found no memory for a likelihood")
