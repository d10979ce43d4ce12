"""`transform`, `impute` and `update`: states as features, gaps filled, training that goes on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from small_models import COMPANY, assert_same_weights, numbers, small, spirals, weights

from latentode.exceptions import DataError


def with_gaps(table: pd.DataFrame, share: float = 0.3) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return table.assign(**{name: table[name].mask(rng.random(len(table)) < share) for name in ("x", "y")})


class TestTransform:
    def test_one_row_per_series_in_order_of_appearance(self, fitted, table):
        shuffled = table.sample(frac=1, random_state=0)
        states = fitted.transform(shuffled)
        assert states.shape == (12, 3)
        assert states.index.tolist() == shuffled["id"].drop_duplicates().tolist()
        assert states.index.name == "id"
        assert list(states.columns) == [f"latentoderegressor{i}" for i in range(3)]
        pd.testing.assert_frame_equal(
            states.sort_index(), fitted.transform(table).sort_index(), atol=COMPANY, rtol=0
        )

    def test_the_state_is_that_which_predictions_start_from(self, fitted, table):
        """The decoded state at the anchor is the mean of a prediction there whose posterior has no spread."""
        states = fitted.transform(table)
        found = fitted._forecaster.posterior(fitted.layout_.read(table))
        np.testing.assert_array_equal(states.to_numpy(), found.mean.double().numpy())

    def test_states_of_a_series_do_not_depend_on_its_company(self, fitted, table):
        alone = fitted.transform(table[table["id"] == 5])
        np.testing.assert_allclose(alone, fitted.transform(table).loc[[5]], atol=COMPANY)

    def test_set_output(self, table):
        polars = pytest.importorskip("polars")
        model = small(max_epochs=1).fit(table)
        foreign = polars.DataFrame({name: table[name].to_numpy() for name in table})
        assert model.transform(foreign).shape == (12, 3)  # no ids: they are no features
        for given in (table, foreign):
            assert isinstance(model.set_output(transform="polars").transform(given), polars.DataFrame)
            assert isinstance(model.set_output(transform="pandas").transform(given), pd.DataFrame)

    def test_it_feeds_a_pipeline_whose_labels_are_for_the_last_step(self, table):
        right = table.groupby("id")["x"].mean() > 0
        pipeline = make_pipeline(small(max_epochs=2), LogisticRegression()).fit(table, right)
        assert pipeline.predict(table).shape == (12,)
        assert_same_weights(pipeline[0], small(max_epochs=2).fit(table))


class TestImpute:
    def test_only_gaps_are_filled_with_what_predict_says(self, fitted, table):
        gaps = with_gaps(table)
        filled = fitted.impute(gaps)
        mean = fitted.predict(gaps)
        for name in ("x", "y"):
            missing = gaps[name].isna()
            pd.testing.assert_series_equal(filled[name][~missing], gaps[name][~missing])
            pd.testing.assert_series_equal(filled[name][missing], mean[name][missing])

    def test_the_rest_of_the_table_stays(self, fitted, table):
        gaps = (
            with_gaps(table).assign(note="kept").sample(frac=1, random_state=0).rename(lambda i: f"row {i}")
        )
        given = gaps.copy()
        filled = fitted.impute(gaps)
        pd.testing.assert_frame_equal(gaps, given)  # the caller's own is untouched
        assert filled.index.equals(gaps.index)
        assert list(filled.columns) == list(gaps.columns)
        pd.testing.assert_frame_equal(filled[["id", "time", "note"]], gaps[["id", "time", "note"]])
        pd.testing.assert_series_equal(filled.dtypes, gaps.dtypes)

    def test_rows_that_observe_nothing_are_times_to_fill_in(self, fitted, table):
        asked = pd.DataFrame({"id": [3, 3], "time": [2.2, 60.0], "x": np.nan, "y": np.nan})
        with pytest.warns(UserWarning, match="training spans"):
            filled = fitted.impute(pd.concat([table, asked], ignore_index=True))
        with pytest.warns(UserWarning, match="training spans"):
            expected = fitted.predict(table, asked[["id", "time"]])
        np.testing.assert_allclose(numbers(filled.tail(2)), numbers(expected), atol=COMPANY)

    def test_a_table_without_gaps_comes_back_equal(self, fitted, table):
        pd.testing.assert_frame_equal(fitted.impute(table), table)

    def test_categories_counts_and_whole_numbers(self, table):
        rng = np.random.default_rng(0)
        mixed = table.assign(
            mood=np.where(table["x"] > 0, "good", "bad"),
            n=pd.array(rng.poisson(3, len(table)), dtype="Int64"),
        )
        model = small(target_cols=["x", "mood", "n"], likelihood={"mood": "categorical", "n": "poisson"}).fit(
            mixed
        )
        gaps = mixed.assign(
            mood=mixed["mood"].where(rng.random(len(mixed)) > 0.3),
            n=mixed["n"].where(rng.random(len(mixed)) > 0.3),
        )
        filled = model.impute(gaps)
        assert set(filled["mood"]) <= {"good", "bad"}
        assert filled["n"].dtype == "Float64"
        assert filled[["x", "mood", "n"]].notna().all().all()
        known = gaps["n"].notna()
        assert (filled["n"][known] == mixed["n"][known]).all()

    @pytest.mark.parametrize("dtype", ["float16", "float32", "Float32", "float64", "double[pyarrow]"])
    def test_columns_of_floats_keep_their_dtype(self, fitted, table, dtype):
        pytest.importorskip("pyarrow")
        gaps = with_gaps(table).astype({"x": dtype, "y": dtype})
        filled = fitted.impute(gaps)
        assert filled.dtypes.equals(gaps.dtypes)
        assert filled[["x", "y"]].notna().all(axis=None)


class TestUpdate:
    def test_series_that_were_trained_on_are_not_validated_on(self, table):
        """Nor does one that was held out join the training: calibration would rest on what the model knows."""
        many = spirals(n_series=40)
        model = small(max_epochs=1, validation_fraction=0.3).fit(many)
        before = model._roles
        more = pd.concat([many, spirals(n_series=20, seed=3).assign(id=lambda df: df["id"] + 100)])
        model.update(more, max_epochs=1)
        after = model._roles
        assert set(before.trained) <= set(after.trained)
        assert set(before.held_out) <= set(after.held_out)
        assert not set(after.trained) & set(after.held_out)
        assert len(after.held_out) == 12 + 6

    def test_no_more_epochs_than_the_parameter_says(self, table):
        model = small(max_epochs=2).fit(table).update(table)
        assert len(model.history_) == 4

    def test_without_validation_there_is_no_best_epoch(self, table):
        model = small(max_epochs=2).fit(table).set_params(validation_fraction=0)
        model._roles = type(model._roles)(model._roles.trained, model._roles.held_out[:0])
        assert model.update(table, max_epochs=1).best_epoch_ is None

    def test_it_goes_on_from_the_weights_with_the_scales_of_fit(self, table):
        model = small(max_epochs=5).fit(table)
        before, scale, scaler = weights(model), model.time_scale_, model.scaler_
        far = table.assign(x=100 + 50 * table["x"], time=1000 + 10 * table["time"])
        model.update(far, max_epochs=2)
        assert model.time_scale_ is scale
        assert model.scaler_ is scaler
        assert any((before[name] != weight).any() for name, weight in weights(model).items())
        assert model.history_["epoch"].tolist() == [1, 2, 3, 4, 5, 6, 7]

    def test_a_rate_of_almost_nothing_changes_almost_nothing(self, fitted, table):
        model = small(max_epochs=2).fit(table)
        before = weights(model)
        model.update(table, max_epochs=1, lr=1e-12)
        for name, weight in weights(model).items():
            np.testing.assert_allclose(weight, before[name], atol=1e-9)

    def test_it_learns_from_the_new_rows(self, table):
        shifted = table.assign(x=table["x"] + 3)
        model = small(max_epochs=40, lr=0.03).fit(table)
        before = model.log_likelihood(shifted)
        model.update(shifted, max_epochs=60, lr=0.03)
        assert model.log_likelihood(shifted) > before

    def test_the_best_epoch_counts_from_the_first_training_on(self, table):
        model = small(max_epochs=3).fit(table).update(table, max_epochs=4)
        losses = model.history_["validation_loss"][3:]
        assert model.best_epoch_ == 4 + int(np.argmin(losses))

    def test_a_failure_leaves_the_model_as_it_was(self, table):
        model = small(max_epochs=2).fit(table)
        before, answer = weights(model), model.predict(table, [2.0])
        model.callbacks = [lambda record: 1 / 0]
        with pytest.raises(ZeroDivisionError):
            model.update(table, max_epochs=3)
        for name, weight in weights(model).items():
            np.testing.assert_array_equal(weight, before[name])
        pd.testing.assert_frame_equal(model.predict(table, [2.0]), answer)
        assert len(model.history_) == 2

    @pytest.mark.parametrize("wrong", [{"max_epochs": 0}, {"lr": -1.0}])
    def test_arguments_are_checked(self, fitted, table, wrong):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"update: {name} must be"):
            fitted.update(table, **wrong)

    def test_series_that_nothing_can_be_learned_from_are_refused(self, fitted, table):
        with pytest.raises(DataError, match="nothing to learn dynamics from"):
            fitted.update(table.groupby("id").head(1))

    def test_it_is_calibrated_anew(self, table):
        many = spirals(n_series=40)
        model = small(calibrate=True, validation_fraction=0.4).fit(many)
        before = model._learned.calibration
        model.update(many, max_epochs=3)
        assert model._learned.calibration is not before


def test_incomplete_rows_are_read_though_training_had_none(table):
    """Of complete rows alone a model learns nothing about incomplete ones: `context_gaps` shows it some."""
    new, truth = with_gaps(spirals(n_series=40, seed=1)), spirals(n_series=40, seed=1)

    def error(share: float) -> float:
        model = small(context_gaps=share, max_epochs=60, lr=0.03, piece_warmup=0).fit(table)
        filled = model.impute(new)
        return float(np.nanmean([(filled[c] - truth[c])[new[c].isna()].pow(2).mean() for c in ("x", "y")]))

    assert error(0.3) < 0.8 * error(0.0)


def test_rows_that_observe_nothing_were_not_seen(table):
    later = table.groupby("id", as_index=False)["time"].max().assign(time=lambda df: df["time"] + 50)
    model = small(max_epochs=1).fit(pd.concat([table, later], ignore_index=True))
    assert model.seen_until_.to_dict() == table.groupby("id")["time"].max().to_dict()


def test_what_was_seen_until_when(table):
    model = small(max_epochs=1).fit(table.assign(x=table["x"].where(table["time"] > 0.5)))
    last = table.groupby("id")["time"].max()
    assert model.seen_until_.to_dict() == last.to_dict()
    later = table[table["id"] < 3].assign(time=lambda df: df["time"] + 1, id=lambda df: df["id"] + 1)
    model.update(later, max_epochs=1)
    expected = last.to_dict() | {i + 1: max(last[i] + 1, last[i + 1]) for i in range(3)}
    assert model.seen_until_.to_dict() == expected
