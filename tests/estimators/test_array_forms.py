"""Estimators on arrays, whatever the layout of an array and the caller's default precision."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from small_flows import small
from small_nets import classifier, clouds, regressor, stripes

from latentode.nn.initialisation import single_precision


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def net_on_images(**params):
    return classifier(block="ode", **params)


KINDS = {
    "classifier": (lambda: classifier(block="ode"), lambda model, X: model.predict_proba(X)),
    "images": (net_on_images, lambda model, X: model.predict_proba(stripes().X)),
    "residual": (classifier, lambda model, X: model.predict_proba(X)),
    "regressor": (lambda: regressor(block="rk"), lambda model, X: model.predict(X)),
    "continuous": (lambda: small("continuous"), lambda model, X: model.score_samples(X)),
    "hutchinson": (lambda: small("continuous", trace="hutchinson"), lambda model, X: model.score_samples(X)),
    "gated": (lambda: small("continuous", field="gated"), lambda model, X: model.sample(5, random_state=0)),
    "planar": (lambda: small("planar"), lambda model, X: model.inverse_transform(model.transform(X))),
}


def fitted_on(kind):
    X, y = stripes() if kind == "images" else clouds()
    return KINDS[kind][0]().fit(X, y)


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_precision_of_the_caller_changes_nothing(kind, tmp_path):
    X, answer = clouds().X, KINDS[kind][1]
    plain = fitted_on(kind)
    expected = answer(plain, X)
    with double_by_default():
        model = fitted_on(kind)
        assert torch.get_default_dtype() == torch.float64
        model.save(tmp_path / "model")
        again = type(model).load(tmp_path / "model")
        for one in (model, again, plain):
            assert_array_equal(answer(one, X), expected)
    assert {weight.dtype for weight in model.model_.parameters()} == {torch.float32}


def test_the_default_precision_is_restored_after_a_failure():
    with double_by_default():
        with pytest.raises(KeyError), single_precision():
            raise KeyError
        assert torch.get_default_dtype() == torch.float64


def layouts(array):
    read_only = array.copy()
    read_only.flags.writeable = False
    swapped = array.astype(array.dtype.newbyteorder(">"))
    return {
        "negative strides": np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
        "columns first": np.asfortranarray(array),
        "every other": np.repeat(array, 2, axis=0)[::2],
        "read-only": read_only,
        "big-endian": swapped,
        "objects": array.astype(object),
    }


@pytest.mark.parametrize("layout", layouts(np.ones((2, 2))))
@pytest.mark.parametrize("which", ["continuous", "planar"])
def test_a_flow_knows_no_layout(which, layout):
    X = clouds().X
    plain, model = small(which).fit(X), small(which).fit(layouts(X)[layout])
    base = plain.transform(X)
    assert_array_equal(model.transform(layouts(X)[layout]), base)
    assert_array_equal(model.score_samples(layouts(X)[layout]), plain.score_samples(X))
    assert_array_equal(model.inverse_transform(layouts(base)[layout]), plain.inverse_transform(base))


@pytest.mark.parametrize("layout", layouts(np.ones((2, 2))))
@pytest.mark.parametrize("data", [clouds, stripes])
def test_a_network_knows_no_layout(data, layout):
    X, y = data()
    plain, model = (classifier(block="ode").fit(some, y) for some in (X, layouts(X)[layout]))
    assert_array_equal(model.decision_function(layouts(X)[layout]), plain.decision_function(X))
