"""Arrays in scikit-learn's form: one series for the regressor, one series per row for the classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import assert_same_weights, small

from latentode import LatentODEClassifier, LatentODERegressor
from latentode.exceptions import DataError


@pytest.fixture(scope="module")
def wave():
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 10, 80))
    return time[:, None], np.sin(time) + 0.05 * rng.normal(size=80)


@pytest.fixture(scope="module")
def fitted(wave):
    return small(max_epochs=5).fit(*wave)


@pytest.fixture(scope="module")
def rows():
    """Rising and falling lines of five values, two of them missing."""
    rng = np.random.default_rng(0)
    slope = rng.choice([-1.0, 1.0], 60)
    X = slope[:, None] * np.arange(5) + 0.1 * rng.normal(size=(60, 5))
    X[3, 1] = X[7, 4] = np.nan
    return X, np.where(slope > 0, "up", "down")


def classifier(**params):
    tiny = {"latent_dim": 2, "hidden_dim": 8, "field": "linear", "random_state": 0, "verbose": 0}
    return LatentODEClassifier(**tiny | {"max_epochs": 20, "lr": 0.05, "label_weight": 10.0} | params)


class TestOneSeries:
    def test_it_is_the_series_of_a_table(self, wave, fitted):
        time, y = wave
        table = pd.DataFrame({"id": 0, "time": time[:, 0], "y0": y})
        model = small(max_epochs=5).fit(table)
        assert_same_weights(fitted, model)
        asked = np.array([[3.0], [11.0], [-0.5]])
        np.testing.assert_array_equal(fitted.predict(asked), model.predict(table, asked[:, 0])["y0"])

    def test_answers_are_arrays(self, wave, fitted):
        X, y = wave
        mean, std = fitted.predict(X, return_std=True)
        assert mean.shape == std.shape == (80,)
        assert fitted.predict_interval(X).shape == (80, 2)
        assert fitted.predict_quantiles(X, quantiles=[0.1, 0.9]).shape == (2, 80)
        assert fitted.sample(X, n_samples=4).shape == (4, 80)
        assert fitted.transform(X).shape == (80, 3)
        assert fitted.score(X, y) == pytest.approx(r2_score(y, mean))
        weights = np.arange(80.0)
        assert fitted.score(X, y, weights) == pytest.approx(r2_score(y, mean, sample_weight=weights))

    def test_several_targets(self, wave):
        X, y = wave
        model = small(max_epochs=2).fit(X, np.column_stack([y, -y]))
        assert model.predict(X).shape == (80, 2)
        assert model.sample(X, n_samples=3).shape == (3, 80, 2)
        assert small(max_epochs=2).fit(X, y[:, None]).predict(X).shape == (80, 1)

    def test_further_columns_are_controls(self, wave):
        X, y = wave
        drive = np.cos(X)
        table = pd.DataFrame({"id": 0, "time": X[:, 0], "x1": drive[:, 0], "y0": y})
        model = small(max_epochs=2).fit(np.hstack([X, drive]), y)
        assert_same_weights(model, small(max_epochs=2, control_cols=["x1"]).fit(table))
        later = np.array([[10.5, 0.3], [11.0, 0.1]])
        expected = small(max_epochs=2, control_cols=["x1"]).fit(table)
        plan = pd.DataFrame({"id": 0, "time": later[:, 0], "x1": later[:, 1]})
        np.testing.assert_array_equal(model.predict(later), expected.predict(table, plan)["y0"])

    def test_of_rows_at_one_time_the_mean_of_the_controls_counts(self, wave):
        X, y = wave
        twice = np.vstack([X, X])
        drive = np.r_[np.zeros(80), np.ones(80)][:, None]
        model = small(max_epochs=1).fit(np.hstack([twice, drive]), np.r_[y, y])
        assert np.isfinite(model.predict([[3.0, 0.5]])).all()
        assert set(model._learned.arrays.table()["x1"]) == {0.5}

    def test_columns_without_names_in_pandas_are_arrays(self, wave, fitted):
        X, y = wave
        model = small(max_epochs=5).fit(pd.DataFrame(X), pd.Series(y))
        assert_same_weights(model, fitted)
        np.testing.assert_array_equal(model.predict(pd.DataFrame(X)), fitted.predict(X.tolist()))

    def test_in_scikit_learns_hands(self, wave):
        X, y = wave
        scores = cross_val_score(make_pipeline(StandardScaler(), small(max_epochs=1)), X, y, cv=2)
        assert np.isfinite(scores).all()

    def test_saved_and_loaded(self, fitted, wave, tmp_path):
        fitted.save(tmp_path / "m")
        again = LatentODERegressor.load(tmp_path / "m")
        np.testing.assert_array_equal(again.predict(wave[0]), fitted.predict(wave[0]))
        assert again.n_features_in_ == 1
        assert not hasattr(again, "feature_names_in_")

    def test_a_later_fit_on_a_table_forgets_them(self, wave):
        X, y = wave
        model = small(max_epochs=1).fit(X, y)
        model.fit(pd.DataFrame({"id": 0, "time": X[:, 0], "y": y}))
        assert list(model.feature_names_in_) == ["y"]
        assert model._learned.arrays is None

    def test_what_it_cannot_mean_is_refused(self, wave, fitted):
        X, y = wave
        with pytest.raises(
            ValueError, match="requires y to be passed, but the target y is None: of arrays, X holds"
        ):
            small().fit(X)
        with pytest.raises(ValueError, match="y must be None: the targets are columns of the table"):
            small().fit(pd.DataFrame({"id": 0, "time": X[:, 0], "y": y}), y)
        with pytest.raises(
            ValueError, match="static_cols names columns, which arrays do not have: leave it out"
        ):
            small(static_cols=["age"]).fit(X, y)
        with pytest.raises(ValueError, match="likelihood names columns"):
            small(likelihood={"y0": "poisson"}).fit(X, y)
        with pytest.raises(ValueError, match="times must be None: this model was fitted on arrays"):
            fitted.predict(X, times=[3.0])
        with pytest.raises(ValueError, match="X has 2 features, but LatentODERegressor is expecting 1"):
            fitted.predict(np.hstack([X, X]))


class TestSeriesPerRow:
    def test_rows_are_series_at_the_times_0_1_2(self, rows):
        X, y = rows
        model = classifier(max_epochs=2).fit(X, y)
        table = pd.DataFrame(X).stack(future_stack=True).rename_axis(["id", "time"]).rename("x").reset_index()
        table["time"] = table["time"].astype(float)
        other = classifier(max_epochs=2).fit(table, dict(enumerate(y)))
        assert_same_weights(model, other)
        np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(table).to_numpy())

    def test_it_learns_them_in_spite_of_gaps(self, rows):
        X, y = rows
        model = classifier().fit(X, y)
        assert model.score(X, y) > 0.9
        found = model.predict(X)
        assert isinstance(found, np.ndarray)
        assert found.dtype.kind == y.dtype.kind
        assert model.predict_proba(X).shape == (60, 2)
        assert model.score(X, y, np.arange(60.0)) > 0.9

    def test_saved_and_loaded(self, rows, tmp_path):
        X, y = rows
        model = classifier(max_epochs=1).fit(X, y)
        model.save(tmp_path / "m")
        np.testing.assert_array_equal(
            LatentODEClassifier.load(tmp_path / "m").predict_proba(X), model.predict_proba(X)
        )

    def test_what_it_cannot_mean_is_refused(self, rows):
        X, y = rows
        with pytest.raises(
            ValueError, match='labels_per="row" needs a table: each row of an array is a series'
        ):
            classifier(labels_per="row").fit(X, y)
        with pytest.raises(ValueError, match="minimum of 2 is required"):
            classifier().fit(X[:, :1], y)
        with pytest.raises(
            ValueError, match="requires y to be passed, but the target y is None: labels must be given"
        ):
            classifier().fit(X, None)
        with pytest.raises(DataError, match="labels of two classes or more"):
            classifier().fit(X, np.ones(60))
