"""Protocol G's training step in JAX with diffrax: the network of ours, with the same weights, batches and bound.

The whole step is one compiled function. Every series has a clock of its own, as in diffrax's documentation.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from training_step import LR, random_indices

from latentode.models.latent_ode import LatentODE
from latentode.nn.encoders.head import INITIAL_STD, STD_FLOOR
from latentode.nn.likelihoods.gaussian import NOISE_FLOOR
from latentode.nn.normal import HALF_LOG_2PI
from latentode.series import SeriesBatch

BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam, as in torch

Layers = list[tuple[Any, Any]]
Weights = dict[str, Any]


class JaxLatentODE:
    """The loss and the step; `weights` and the moments of Adam are arrays of JAX.

    Parameters
    ----------
    model : LatentODE
        Where the first weights come from.
    data : SeriesBatch
        All series.
    solver : str
        "tsit5" or "dopri5".
    step_size, rtol, atol : float
        Fixed steps, or tolerances.
    """

    def __init__(
        self,
        model: LatentODE,
        data: SeriesBatch,
        *,
        solver: str,
        step_size: float | None = None,
        rtol: float = 1e-3,
        atol: float = 1e-4,
    ) -> None:
        self._jax, self._diffrax = importlib.import_module("jax"), importlib.import_module("diffrax")
        self._solver = {"tsit5": self._diffrax.Tsit5, "dopri5": self._diffrax.Dopri5}[solver]()
        self._first_step = step_size
        self._controller = (
            self._diffrax.ConstantStepSize()
            if step_size
            else self._diffrax.PIDController(rtol=rtol, atol=atol)
        )
        self._times = self._jax.numpy.asarray(data.times.numpy(), dtype="float32")
        self._values = self._jax.numpy.asarray(data.values.numpy())
        self.weights = self._jax.tree_util.tree_map(self._jax.numpy.asarray, weights_of(model))
        self._loss = self._jax.jit(self.loss)

    def loss(self, weights: Weights, times: Any, values: Any, eps: Any) -> Any:
        """Minus the evidence lower bound per observed cell, for times (N, T), values (N, T, D), eps (N, L)."""
        jnp = self._jax.numpy
        times = times - times[:, :1]
        mean, std = self._posterior(weights, times, values)
        z = self._jax.vmap(self._solve, in_axes=(0, 0, None))(mean + std * eps, times, weights["field"])
        noise = jnp.exp(weights["log_noise"]) + NOISE_FLOOR
        residual = (values - self._perceptron(weights["decoder"], z)) / noise
        log_lik = -(0.5 * residual**2 + jnp.log(noise) + HALF_LOG_2PI).sum()
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * jnp.log(std)).sum()
        return (kl - log_lik) / values.size

    def loss_at(self, index: np.ndarray, eps: np.ndarray) -> float:
        """The loss of these series with these random numbers."""
        return float(self._loss(self.weights, self._times[index], self._values[index], eps))

    def training_step(self, batch_size: int) -> Callable[[], float]:
        """A step, from the batch to the new weights; its loss."""
        jax = self._jax
        indices = random_indices(len(self._times), batch_size)
        zeros = jax.tree_util.tree_map(jax.numpy.zeros_like, self.weights)
        state = (self.weights, zeros, zeros, jax.numpy.zeros(()), jax.random.PRNGKey(0))
        compiled = jax.jit(self._step)

        def step() -> float:
            nonlocal state
            state, loss = compiled(state, self._times, self._values, next(indices))
            return float(loss)  # waits for it

        return step

    def _step(
        self, state: tuple[Any, ...], times: Any, values: Any, index: Any
    ) -> tuple[tuple[Any, ...], Any]:
        weights, first, second, count, key = state
        key, own = self._jax.random.split(key)
        eps = self._jax.random.normal(own, (len(index), self._latent_dim))
        loss, gradient = self._jax.value_and_grad(self.loss)(weights, times[index], values[index], eps)
        count = count + 1
        return (*self._adam(weights, gradient, first, second, count), count, key), loss

    def _adam(
        self, weights: Weights, gradient: Weights, first: Weights, second: Weights, count: Any
    ) -> tuple[Any, ...]:
        of_each, (b1, b2) = self._jax.tree_util.tree_map, BETAS
        first = of_each(lambda m, g: b1 * m + (1 - b1) * g, first, gradient)
        second = of_each(lambda v, g: b2 * v + (1 - b2) * g**2, second, gradient)

        def updated(w: Any, m: Any, v: Any) -> Any:
            spread = self._jax.numpy.sqrt(v / (1 - b2**count)) + EPS
            return w - LR * m / (1 - b1**count) / spread

        return of_each(updated, weights, first, second), first, second

    def _posterior(self, weights: Weights, times: Any, values: Any) -> tuple[Any, Any]:
        """A GRU from the last row to the first, over (values, mask, Δt), then one hidden layer."""
        jax, jnp = self._jax, self._jax.numpy
        backwards = values[:, ::-1]
        gaps = jnp.diff(times, append=times[:, -1:])[:, ::-1, None]
        rows = jnp.concatenate([backwards, jnp.ones_like(backwards), gaps], axis=-1)
        w_in, w_state, b_in, b_state = weights["gru"]
        read = jnp.swapaxes(rows @ w_in.T + b_in, 0, 1)  # (T, N, 3 H)

        def cell(h: Any, row: Any) -> tuple[Any, None]:
            in_reset, in_update, in_new = jnp.split(row, 3, axis=-1)
            of_reset, of_update, of_new = jnp.split(h @ w_state.T + b_state, 3, axis=-1)
            new = jnp.tanh(in_new + jax.nn.sigmoid(in_reset + of_reset) * of_new)
            update = jax.nn.sigmoid(in_update + of_update)
            return (1 - update) * new + update * h, None

        summary, _ = jax.lax.scan(cell, jnp.zeros((len(times), w_state.shape[1])), read)
        mean, raw = jnp.split(self._perceptron(weights["head"], summary), 2, axis=-1)
        return mean, jax.nn.softplus(raw + math.log(math.expm1(INITIAL_STD))) + STD_FLOOR

    def _solve(self, z0: Any, times: Any, layers: Layers) -> Any:
        """States of one series at its times (T,)."""
        return self._diffrax.diffeqsolve(
            self._diffrax.ODETerm(lambda t, z, layers: self._perceptron(layers, z)),
            self._solver,
            times[0],
            times[-1],
            self._first_step,
            z0,
            args=layers,
            saveat=self._diffrax.SaveAt(ts=times),
            stepsize_controller=self._controller,
        ).ys

    def _perceptron(self, layers: Layers, x: Any) -> Any:
        *hidden, (weight, bias) = layers
        for w, b in hidden:
            x = self._jax.numpy.tanh(x @ w.T + b)
        return x @ weight.T + bias

    @property
    def _latent_dim(self) -> int:
        return self.weights["field"][-1][0].shape[0]


def weights_of(model: LatentODE) -> Weights:
    """The weights of ours, as arrays."""

    def layers(mlp: Any) -> Layers:
        return [(_array(layer.weight), _array(layer.bias)) for layer in mlp.layers]

    return {
        "gru": tuple(_array(part) for part in model.encoder.gru.parameters()),
        "head": layers(model.encoder.head.mlp),
        "field": layers(model.field.mlp),
        "decoder": layers(model.decoder.mlp),
        "log_noise": _array(model.likelihood.log_noise),
    }


def _array(parameter: Any) -> np.ndarray:
    return parameter.detach().numpy().copy()
