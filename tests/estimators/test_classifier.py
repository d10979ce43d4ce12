"""`LatentODEClassifier`: labels in all their forms, per series and per row."""

from __future__ import annotations

import inspect
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.class_weight import compute_class_weight
from small_models import COMPANY
from torch.nn import functional

from latentode import LatentODEClassifier, LatentODERegressor
from latentode.estimators import labels as of
from latentode.estimators.parameters import CONSTRAINTS
from latentode.exceptions import DataError
from latentode.models.build import build_latent_ode
from latentode.models.classifier import ClassifyingLatentODE
from latentode.models.latent_ode import LossOptions, SolveOptions
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import GRUEncoder
from latentode.nn.fields import MLPField
from latentode.nn.likelihoods import GaussianLikelihood
from latentode.series import SeriesBatch, cut_pieces


def turning(n_series: int = 16, n_rows: int = 10, seed: int = 0) -> pd.DataFrame:
    """Waves that begin upwards or downwards, at irregular times; whether x is above 0 is the label of a row."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(n_series):
        time = np.sort(rng.uniform(0, 6, n_rows))
        x = (1 if i % 2 else -1) * np.sin(time)
        parts.append(
            pd.DataFrame({"id": f"s{i}", "time": time, "x": x + 0.05 * rng.normal(size=n_rows), "up": i % 2})
        )
    return pd.concat(parts, ignore_index=True).assign(high=lambda df: np.where(df["x"] > 0, "high", "low"))


def small(**params) -> LatentODEClassifier:
    defaults = {
        "latent_dim": 3,
        "hidden_dim": 10,
        "max_epochs": 60,
        "batch_size": 8,
        "lr": 0.03,
        "target_cols": ["x"],
        "random_state": 0,
        "verbose": 0,
    }
    return LatentODEClassifier(**(defaults | params))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return turning()


@pytest.fixture(scope="module")
def by_series(table: pd.DataFrame) -> LatentODEClassifier:
    return small().fit(table, "up")


@pytest.fixture(scope="module")
def by_row(table: pd.DataFrame) -> LatentODEClassifier:
    return small(labels_per="row").fit(table, "high")


def test_series_that_were_never_seen_are_told_apart(by_series):
    new = turning(seed=1)
    assert by_series.score(new, "up") == 1.0
    found = by_series.predict_proba(new)
    assert list(found.columns) == [0, 1]
    assert found.index.name == "id"
    assert list(found.index) == list(new["id"].unique())
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert (by_series.predict(new) == found.idxmax(axis=1)).all()


def test_rows_that_were_never_seen_are_told_apart(by_row):
    new = turning(seed=1)
    assert by_row.score(new, "high") > 0.85
    assert by_row.classes_.tolist() == ["high", "low"]
    shuffled = new.sample(frac=1, random_state=0)
    found = by_row.predict_proba(shuffled)
    assert found.index.equals(shuffled.index)
    np.testing.assert_allclose(found.sort_index(), by_row.predict_proba(new), atol=COMPANY)


def test_company_does_not_matter(by_series, table):
    together = by_series.predict_proba(table).loc[["s3"]]
    alone = by_series.predict_proba(table[table["id"] == "s3"])
    np.testing.assert_allclose(together, alone, atol=COMPANY)


def forms(df: pd.DataFrame) -> dict[str, object]:
    by_id = df.groupby("id")["up"].first()
    return {
        "mapping": by_id.to_dict(),
        "indexed by id": by_id.sample(frac=1, random_state=0),
        "column": "up",
        "list of rows": df["up"].tolist(),
        "array of rows": df["up"].to_numpy(),
        "column of the frame": df["up"],
    }


@pytest.mark.parametrize("form", forms(turning()))
def test_labels_may_have_any_form(form, table):
    shuffled = table.sample(frac=1, random_state=1)
    found = of.series_labels(shuffled, forms(shuffled)[form], "id")
    expected = shuffled.drop_duplicates("id").set_index("id")["up"]
    assert found.index.equals(pd.Index(shuffled["id"].unique()))
    assert found.astype(int).tolist() == expected.tolist()


def test_the_column_of_labels_is_no_target(table):
    model = small(target_cols=None, max_epochs=1).fit(table, "up")
    assert list(model.feature_names_in_) == ["x"]


def test_labels_may_be_missing(table):
    some = table.groupby("id")["up"].first().iloc[:6].to_dict()
    model = small(max_epochs=2).fit(table, some)
    assert len(model.predict(table)) == 16
    rows = table["high"].where(table.index % 2 == 0)
    assert len(small(labels_per="row", max_epochs=2).fit(table, rows).predict(table)) == len(table)


def test_a_row_with_a_label_and_no_observation_teaches_and_is_answered(table):
    blind = table.assign(x=table["x"].where(table.index % 3 > 0))
    assert len(small(labels_per="row", max_epochs=2).fit(blind, "high").predict(blind)) == len(blind)


def piece_of_rows() -> tuple[ClassifyingLatentODE, object]:
    generator = torch.Generator().manual_seed(0)
    model = build_latent_ode(
        encoder=GRUEncoder,
        field=MLPField,
        likelihood=GaussianLikelihood(1),
        decoder=MLPDecoder,
        latent_dim=2,
        hidden_dim=5,
        depth=1,
        activation="tanh",
        encoder_dim=4,
        time_dependent=False,
        backwards=True,
        n_static=0,
        n_controls=0,
        event_rates=[],
        options=SolveOptions(),
        generator=generator,
    )
    made = ClassifyingLatentODE(
        model, 2, 5, torch.tensor([1.0, 3.0, 0.5]), label_weight=0.7, per_row=True, generator=generator
    ).double()
    times = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 0.5]]).double()
    mask = torch.ones(2, 3, 1, dtype=torch.bool)
    mask[1, 2] = False
    batch = SeriesBatch(
        times,
        times[..., None] * mask,
        mask,
        torch.tensor([3, 2]),
        row_labels=torch.tensor([[0, -1, 2], [1, 1, -1]]),
    )
    return made, cut_pieces(batch, "all")


def test_the_loss_is_the_bound_plus_the_weighted_cross_entropy():
    made, piece = piece_of_rows()
    options = LossOptions(2)
    found = made.loss(piece, generator=torch.Generator().manual_seed(1), options=options, kl_weight=0.3)
    passage = made.model.passage(piece, options, torch.Generator().manual_seed(1))
    bound = made.model.loss_of(passage, piece.target, options, 0.3).total
    logits = made.head(passage.trajectory.z)
    labelled = [(n, t, label) for n, t, label in [(0, 0, 0), (0, 2, 2), (1, 0, 1), (1, 1, 1)]]
    weight = [1.0, 3.0, 0.5]
    total = sum(
        -weight[c] * functional.log_softmax(logits[k, n, t], -1)[c] for k in range(2) for n, t, c in labelled
    )
    expected = total / (2 * len(labelled))
    assert (found.total - bound).item() == pytest.approx(0.7 * expected.item())
    assert found.parts["cross_entropy"].item() == pytest.approx(expected.item())


def test_a_batch_without_labels_has_the_loss_of_the_bound():
    made, piece = piece_of_rows()
    object.__setattr__(piece.target, "row_labels", torch.full((2, 3), -1))
    options = LossOptions()
    found = made.loss(piece, generator=torch.Generator().manual_seed(1), options=options, kl_weight=1.0)
    plain = made.model.loss(piece, generator=torch.Generator().manual_seed(1), options=options)
    assert found.total.item() == pytest.approx(plain.total.item())
    assert math.isfinite(found.parts["accuracy"])


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0, 1: 5.0}])
def test_class_weights_are_those_of_scikit_learn(class_weight):
    given = of.Labels(np.array([0, 0, 0, 1, -1]), np.array([0, 1]))
    expected = compute_class_weight(class_weight, classes=np.array([0, 1]), y=np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(of.class_weights(class_weight, given), expected)


def test_class_weights_move_the_answer(table):
    few = table.groupby("id")["up"].first()
    arguments = {"max_epochs": 20, "lr": 0.01}
    low, high = (
        small(class_weight={0: w, 1: 1.0}, **arguments)
        .fit(table, few)
        .predict_proba(turning(seed=1))[0]
        .mean()
        for w in (0.05, 20.0)
    )
    assert low < high


BAD = {
    "unknown column": (
        "ups",
        DataError,
        "labels names the column 'ups', which the table does not have (did you mean 'up'?)",
    ),
    "too few": (
        [0, 1],
        DataError,
        "labels must have one entry per row of the table, 160; got 2. For one per series",
    ),
    "a table": (pd.DataFrame({"up": [1, 0]}), DataError, "labels must be one column, not a table"),
    "of two types": ({"s0": 1, "s1": "a"}, DataError, "labels must be of one type; got int, str"),
    "some foreign ids": (
        {"s0": 0, "s1": 1, "b": 1},
        DataError,
        "labels has ids that the table does not have: 'b'",
    ),
    "two in a series": ("high", DataError, 'give each series one, or use labels_per="row"'),
    "foreign ids": ({"a": 0, "b": 1}, DataError, "labels has ids that the table does not have: 'a', 'b'"),
    "one class": ({"s0": 1, "s1": 1}, DataError, "needs labels of two classes or more; got 1 class, [1]"),
    "an id twice": (
        pd.Series([0, 1], index=["s0", "s0"]),
        DataError,
        "labels has the id 's0' more than once",
    ),
    "all missing": ({"s0": None, "s1": np.nan}, DataError, "needs labels of two classes or more; got none"),
    "none": (None, ValueError, "labels must be given"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_labels_are_refused(case, table):
    given, kind, message = BAD[case]
    with pytest.raises(kind, match=re.escape(message)):
        small().fit(table, given)


def test_bad_parameters_are_refused(table):
    with pytest.raises(
        ValueError, match="LatentODEClassifier: labels_per must be one of 'series', 'row'; got 'id'"
    ):
        small(labels_per="id").fit(table, "up")
    with pytest.raises(ValueError, match="class_weight has a weight for 7; the classes are"):
        small(class_weight={7: 1.0}).fit(table, "up")
    with pytest.raises(ValueError, match="sample_weight must be None"):
        small(max_epochs=1).fit(table, "up").score(table, "up", sample_weight=[1])


def test_scikit_learn_knows_it_as_a_classifier(table):
    assert is_classifier(LatentODEClassifier())
    twin = clone(small(class_weight="balanced"))
    assert twin.get_params()["class_weight"] == "balanced"
    with pytest.raises(NotFittedError):
        twin.predict(table)


def test_shared_parameters_have_the_defaults_of_the_regressor():
    own, regressor = (
        inspect.signature(kind.__init__).parameters for kind in (LatentODEClassifier, LatentODERegressor)
    )
    assert set(regressor) - set(own) == {"calibrate"}  # of forecasts
    assert set(own) - set(regressor) == {"labels_per", "class_weight", "label_weight"}
    shared = set(regressor) & set(own)
    assert {name for name in shared if own[name].default != regressor[name].default} == {"context"}
    assert set(own) | set(regressor) == {"self", *CONSTRAINTS}


def test_covariates_and_windows_work_for_classes_too(table):
    df = table.assign(mass=(table["up"] + 1.0))
    model = small(static_cols=["mass"], max_epochs=2).fit(df, "up")
    assert len(model.predict(df)) == 16
    windowed = small(window=2.0, max_epochs=2).fit(df, "up")
    assert len(windowed.predict(df)) == 16


def test_labels_of_rows_are_matched_by_their_index(table):
    rows = table["up"].sample(frac=1, random_state=3)
    found = of.series_labels(table, rows, "id")
    assert found.astype(int).tolist() == table.drop_duplicates("id")["up"].tolist()
    by_row = of.row_labels(table, rows)
    assert by_row.tolist() == table["up"].tolist()
    numbered = table.assign(id=table["id"].str[1:].astype(int))
    with pytest.raises(DataError, match="labels has ids that the table does not have"):
        of.series_labels(numbered[numbered["time"] > 1], numbered["up"], "id")


def test_a_mapping_is_by_id_even_where_ids_look_like_rows():
    """Three series of one row each, in another order than their ids count."""
    df = pd.DataFrame({"id": [2, 0, 1], "time": 0.0, "x": 1.0})
    assert of.series_labels(df, {0: "a", 1: "b", 2: "c"}, "id").to_dict() == {2: "c", 0: "a", 1: "b"}


def test_whole_numbers_stay_whole_where_a_label_is_missing(table):
    labels = table.groupby("id")["up"].first().astype(float)
    labels.iloc[0] = np.nan
    found = of.encoded(labels)
    assert found.classes.dtype.kind == "i"
    assert (found.codes == -1).sum() == 1


def test_labels_among_the_targets_are_refused(table):
    with pytest.raises(DataError, match="target 'up' holds the labels themselves"):
        small(target_cols=None).fit(table.drop(columns="high"), table["up"])
    with pytest.raises(ValueError, match="column 'up' holds the labels: it cannot be in target_cols, too"):
        small(target_cols=["x", "up"]).fit(table, "up")


def test_weights_of_classes_must_be_positive(table):
    with pytest.raises(ValueError, match=re.escape("class_weight must give positive numbers; got {0: -5.0}")):
        small(class_weight={0: -5.0}).fit(table, "up")


def test_an_array_has_no_columns_to_name():
    with pytest.raises(ValueError, match="target_cols names columns, which arrays do not have"):
        small(target_cols=["x"]).fit(np.zeros((3, 2)), [0, 1, 1])
