"""A caller who sets torch's default precision gets the same latent ODE: its networks are float32 whatever it is."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_models import TARGETS, assert_same_weights, numbers, small, spirals

from latentode import LatentODEClassifier, LatentODERegressor

ROUNDING = 1e-6  # relative: a constant in the other precision, in answers that are float32 at best
CHEAP = {"max_epochs": 2, "solver": "rk4", "step_size": 0.5}


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def table():
    df = spirals(6, 8)
    first = df.groupby("id")["x"].transform("first")
    return df.assign(age=first, dose=np.sin(df["time"]), count=np.arange(len(df)) % 3)


REGRESSORS = {
    "defaults": {"max_epochs": 1, "solver": "dopri5", "step_size": None},
    "gated, controls, calibrated": {
        "field": "gated",
        "static_cols": ("age",),
        "control_cols": ("dose",),
        "calibrate": True,
        "validation_fraction": 0.5,
    },
    "odernn, linear, student_t, adjoint": {
        "encoder": "odernn",
        "field": "linear",
        "likelihood": "student_t",
        "gradient": "adjoint",
    },
    "counts and event times": {
        "likelihood": {"x": "gaussian", "y": "gaussian", "count": "negative_binomial"},
        "target_cols": (*TARGETS, "count"),
        "event_times": "poisson",
        "anchor": "end",
        "kinetic": 0.1,
    },
}
LABELS = {"latent_dim": 2, "hidden_dim": 6, "batch_size": 6, "random_state": 0, "verbose": 0}


def regressor(options):
    columns = {"target_cols": TARGETS} if "target_cols" not in options else {}
    return small(**CHEAP | columns | options)


def regressor_answers(model: LatentODERegressor, df):
    yield numbers(model.predict(df, times=[0.5, 5.0]))
    yield numbers(model.predict(df))
    yield numbers(model.sample(df, times=[3.0], n_samples=2))
    yield np.asarray(model.predict_quantiles(df, times=[3.0]).select_dtypes("number"))
    yield np.asarray(model.transform(df))
    yield np.asarray(model.log_likelihood(df))
    yield np.asarray([model.score(df)])


def classifier_answers(model: LatentODEClassifier, df):
    yield np.asarray(model.predict(df))
    yield np.asarray(model.predict_proba(df))


def holds(make, answers, df, tmp_path):
    """Fitted, saved, loaded and asked under either default, a model has the same weights and answers."""
    plain = make()
    df = df[df["id"] < 2]
    expected = list(answers(plain, df))
    with double_by_default():
        model = make()
        model.save(tmp_path / "model")
        again = type(model).load(tmp_path / "model")
        found = [list(answers(one, df)) for one in (model, again, plain)]
        assert torch.get_default_dtype() == torch.float64
    for one in found:
        for array, wanted in zip(one, expected, strict=True):
            assert_allclose(array, wanted, rtol=ROUNDING, atol=ROUNDING)
    assert_same_weights(model, plain)
    assert_same_weights(again, plain)
    kinds = {weight.dtype for one in (model, again) for weight in one.model_.state_dict().values()}
    assert kinds == {torch.float32}


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_is_the_same(name, tmp_path):
    df, options = table(), REGRESSORS[name]
    if "control_cols" in options:

        def answers(model, df):
            controls = df[["id", "time", "dose"]]
            plan = controls.assign(time=controls["time"] + 2.0)
            yield numbers(model.predict(df))
            yield numbers(model.predict(df, times=plan))
    else:
        answers = regressor_answers
    holds(lambda: regressor(options).fit(df), answers, df, tmp_path)


def test_a_classifier_is_the_same(tmp_path):
    df = table().drop(columns=["age", "dose", "count"])
    labels = df.groupby("id")["x"].first() > 0
    holds(lambda: LatentODEClassifier(**CHEAP | LABELS).fit(df, labels), classifier_answers, df, tmp_path)


def test_an_update_goes_on():
    df = spirals(6, 8)
    plain = small(**CHEAP).fit(df)
    plain.update(df, max_epochs=1)
    with double_by_default():
        model = small(**CHEAP).fit(df)
        model.update(df, max_epochs=1)
    assert_same_weights(model, plain)
