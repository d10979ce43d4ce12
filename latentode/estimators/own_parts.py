"""A user's own encoder and field: copied, told what they need to know, and tried before a training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentode.models.dynamics import slope
from latentode.models.latent_ode import LatentODE, inputs_of
from latentode.nn.normal import Normal
from latentode.series.split import Piece


def own_copy(part: Any, table: Mapping[str, type[nn.Module]]) -> Any:
    """The class of that name, or a copy of a user's module: `fit` must not train the caller's own."""
    return table[part] if isinstance(part, str) else copy.deepcopy(part)


def own_field(field: Any, table: Mapping[str, type[nn.Module]], time_dependent: bool) -> Any:
    """As `own_copy`; a user's field that says nothing about time is told what the parameter says.

    Raises
    ------
    ValueError
        When the field says that it does not depend on time and the parameter says that it does.
    """
    own = own_copy(field, table)
    if isinstance(own, nn.Module):
        if time_dependent and getattr(own, "time_dependent", True) is False:
            raise ValueError(
                "time_dependent=True, but the field has time_dependent=False: set one of them as the other"
            )
        if not hasattr(own, "time_dependent"):
            own.time_dependent = time_dependent  # type: ignore[assignment]
    return own


def check_direction(encoder: Any, anchor: str) -> None:
    """Refuse an encoder of ours that reads towards the wrong end.

    Raises
    ------
    ValueError
    """
    backwards = getattr(encoder, "backwards", None)
    if isinstance(backwards, bool) and backwards != (anchor == "start"):
        raise ValueError(
            f"anchor={anchor!r} needs an encoder that reads {'backwards' if anchor == 'start' else 'forwards'}: make "
            f"it with backwards={anchor == 'start'}"
        )


def check_own_parts(model: LatentODE, piece: Piece, latent_dim: int) -> None:
    """Try a user's encoder and field on one batch, and say how they are called where they cannot be.

    Raises
    ------
    ValueError
        When an answer is no `Normal` with mean and positive std of shape (N, latent_dim), or no slope of that width.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            _check_posterior(
                _posterior(model, piece), (len(piece.context), latent_dim), piece.context.values.dtype
            )
            _check_slope(model, piece, latent_dim)
    finally:
        for module, mode in modes:
            module.training = mode


def _posterior(model: LatentODE, piece: Piece) -> Any:
    values, mask = model.read(piece.context, piece.origin)
    context = piece.context
    try:
        return model.encoder(context.times, values, mask, context.lengths)
    except Exception as error:
        raise ValueError(
            f"the encoder failed with {type(error).__name__}: {error}. It is called with times {_kind(context.times)}, "
            f"values {_kind(values)} (features of the targets, then static covariates, then controls), mask "
            f"{_kind(mask)} and lengths {_kind(context.lengths)}"
        ) from error


def _check_posterior(posterior: Any, shape: tuple[int, int], dtype: torch.dtype) -> None:
    if not isinstance(posterior, Normal):
        kind = type(posterior)
        raise ValueError(
            "an encoder must return latentode.nn.normal.Normal(mean, std) for (times, values, mask, lengths); got "
            f"{kind.__module__}.{kind.__qualname__}"
        )
    positive = bool((posterior.std > 0).all())
    if posterior.mean.shape != shape or posterior.std.shape != shape or not positive:
        raise ValueError(
            f"an encoder must return mean and positive std of shape {shape}, series × latent_dim; got mean "
            f"{tuple(posterior.mean.shape)} and std {tuple(posterior.std.shape)}, smallest std "
            f"{float(posterior.std.min()):g}"
        )
    if posterior.mean.dtype != dtype or not bool(torch.isfinite(posterior.mean).all()):
        raise ValueError(
            f"an encoder must return finite numbers in the dtype of values, {dtype}; got {posterior.mean.dtype} (times "
            "are float64: convert what is computed from them)"
        )


def _check_slope(model: LatentODE, piece: Piece, latent_dim: int) -> None:
    n = min(2, len(piece.context))
    dtype = piece.context.values.dtype
    t, z = torch.zeros(n, dtype=dtype), torch.zeros(n, latent_dim, dtype=dtype)
    t, z = t.to(piece.origin.device), z.to(piece.origin.device)
    inputs = inputs_of(piece.context, piece.origin)
    at = None if inputs is None else inputs.at(torch.arange(n, device=t.device), t)
    called = "field(t, z)" if at is None else "field(t, z, inputs)"
    shapes = f"t {tuple(t.shape)}, z {tuple(z.shape)}" + ("" if at is None else f", inputs {tuple(at.shape)}")
    try:
        found = slope(model.field, t, z, at)
    except Exception as error:
        raise ValueError(
            f"the field failed with {type(error).__name__}: {error}. It is called as {called} with {shapes}, all "
            f"{dtype}; inputs are the static covariates, then the controls at t"
        ) from error
    if not isinstance(found, Tensor) or found.shape != z.shape or found.dtype != dtype:
        got = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"{called} with {shapes} must return dz/dt of shape {tuple(z.shape)} {dtype}; got {got}"
        )


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"
