"""Traces and norms of Jacobians: exact ones against autograd, estimates against exact ones."""

from __future__ import annotations

import pytest
import torch
from flow_field_cases import OwnField, all_fields, jacobians, points
from tolerances import ROUNDING
from torch import nn

from latentode.nn.divergence import exact_divergence, hutchinson_divergence, jacobian_products, rademacher

FIELDS = all_fields()
STANDARD_ERRORS = 5.0  # a right mean lies farther off once in two million times; the seed is fixed anyway


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", FIELDS)
def test_exact_trace_and_norm(name):
    field, (t, z) = FIELDS[name], points()
    expected = jacobians(field, t, z)
    found = exact_divergence(field, t, z, norm=True)
    torch.testing.assert_close(found.slope, field(t, z), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(found.trace, expected.diagonal(dim1=1, dim2=2).sum(-1), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(found.squared_norm, expected.square().sum((1, 2)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", FIELDS)
def test_the_norm_is_worked_out_only_where_asked_for(name):
    t, z = points()
    plain = exact_divergence(FIELDS[name], t, z)
    assert plain.squared_norm is None
    torch.testing.assert_close(
        plain.trace, exact_divergence(FIELDS[name], t, z, norm=True).trace, rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize("name", FIELDS)
def test_hutchinsons_estimates_have_the_right_means(name):
    field, (t, z) = FIELDS[name], points(2)
    exact = exact_divergence(field, t, z, norm=True)
    probes = rademacher(4000, z, generator())
    single = hutchinson_divergence(
        field, t.repeat(4000), z.repeat(4000, 1), probes.flatten(0, 1)[None], norm=True
    )
    for estimates, truth in ((single.trace, exact.trace), (single.squared_norm, exact.squared_norm)):
        draws = estimates.unflatten(0, (4000, 2))
        error = draws.std(0) / 4000**0.5
        assert (error > 0).all()
        assert ((draws.mean(0) - truth).abs() < STANDARD_ERRORS * error).all()


def test_probes_are_averaged():
    field, (t, z) = FIELDS["concatsquash"], points()
    probes = rademacher(3, z, generator())
    together = hutchinson_divergence(field, t, z, probes, norm=True)
    alone = [hutchinson_divergence(field, t, z, probe[None], norm=True) for probe in probes]
    torch.testing.assert_close(together.trace, torch.stack([one.trace for one in alone]).mean(0))
    torch.testing.assert_close(
        together.squared_norm, torch.stack([one.squared_norm for one in alone]).mean(0)
    )


def test_rademacher_probes_are_exact_for_diagonal_jacobians():
    class Diagonal(nn.Module):
        def forward(self, t, z):
            return torch.sin(z) * (1 + t[:, None])

    t, z = points()
    found = hutchinson_divergence(Diagonal(), t, z, rademacher(1, z, generator()), norm=True)
    diagonal = torch.cos(z) * (1 + t[:, None])
    torch.testing.assert_close(found.trace, diagonal.sum(1), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(found.squared_norm, diagonal.square().sum(1), rtol=0, atol=ROUNDING)


def test_rademacher_probes_are_signs():
    probes = rademacher(3, torch.zeros(500, 2), generator())
    assert probes.shape == (3, 500, 2)
    assert probes.dtype == torch.float32
    assert set(probes.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(probes.mean())) < STANDARD_ERRORS / 3000**0.5


@pytest.mark.parametrize("method", ["exact", "hutchinson"])
def test_gradients_through_a_users_field(method):
    """Second derivatives of the field, by finite differences."""
    field, (t, z) = OwnField(2), points(2, 2)
    probes = rademacher(2, z, generator())

    def answers(z, a, b):
        weights = {"a": a, "b": b}

        class Bound(nn.Module):
            def forward(self, t, z):
                return torch.func.functional_call(field, weights, (t, z))

        if method == "exact":
            return exact_divergence(Bound(), t, z, norm=True)
        return hutchinson_divergence(Bound(), t, z, probes, norm=True)

    assert torch.autograd.gradcheck(answers, (z.requires_grad_(), field.a, field.b))


@pytest.mark.parametrize("name", FIELDS)
def test_without_gradients_there_is_no_graph_and_the_same_numbers(name):
    field, (t, z) = FIELDS[name], points()
    with_graph = exact_divergence(field, t, z, norm=True)
    with torch.no_grad():
        without = exact_divergence(field, t, z, norm=True)
    for one, other in zip(with_graph, without):
        assert one.requires_grad
        assert not other.requires_grad
        torch.testing.assert_close(one, other, rtol=0, atol=ROUNDING)


def test_the_gradient_of_parameters_is_found_where_z_has_none():
    field, (t, z) = OwnField(), points()
    exact_divergence(field, t, z).trace.sum().backward()
    assert field.a.grad is not None
    assert field.a.grad.any()


def test_fields_without_a_jacobian():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, t, z):
            return self.c.expand_as(z)

    class Fixed(nn.Module):
        def forward(self, t, z):
            return torch.ones_like(z)

    t, z = points()
    for field in (Constant(), Fixed()):
        slope, products = jacobian_products(field, t, z, rademacher(2, z, generator()))
        assert torch.equal(slope, torch.ones_like(z))
        assert not products.any()
