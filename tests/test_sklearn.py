"""The classifier for scikit-learn."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the classifier is for scikit-learn")
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from xpnet.sklearn import Classifier


def broken_rules(estimator):
    return {"check_sample_weight_equivalence_on_dense_data": "repeated samples make other mini-batches than weights do"}


@parametrize_with_checks([Classifier(learning_rate=0.01, epochs=20)], expected_failed_checks=broken_rules)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::xpnet.DataWarning")  # some checks leave features on a scale of 45
def test_it_keeps_to_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def iris():
    images, labels = load_iris(return_X_y=True)
    return images, np.asarray(["setosa", "versicolor", "virginica"])[labels]


def test_a_grid_search_over_a_pipeline_finds_a_good_one(iris):
    model = make_pipeline(StandardScaler(), Classifier((20,), epochs=30))
    search = GridSearchCV(model, {"classifier__learning_rate": [1e-7, 1e-2]}, cv=3).fit(*iris)
    assert search.best_params_ == {"classifier__learning_rate": 1e-2}
    assert search.best_score_ > 0.93
    assert set(search.predict(iris[0])) == {"setosa", "versicolor", "virginica"}


@pytest.mark.slow
def test_folds_can_be_trained_in_several_processes(iris):
    model = make_pipeline(StandardScaler(), Classifier((20,), epochs=5))
    scores = [cross_val_score(model, *iris, cv=3, n_jobs=jobs) for jobs in (1, 2)]
    np.testing.assert_array_equal(*scores)


def test_it_trains_on_any_backend_and_opens_from_a_pickle(backend, iris):
    images = StandardScaler().fit_transform(iris[0])
    model = Classifier((8,), epochs=3, backend=backend.spec, dtype="float64").fit(images, iris[1])
    again = pickle.loads(pickle.dumps(model))
    expected = Classifier((8,), epochs=3, backend="numpy", dtype="float64").fit(images, iris[1])
    np.testing.assert_allclose(again.predict_proba(images), expected.predict_proba(images), rtol=0, atol=1e-12)
    np.testing.assert_allclose(again.predict_proba(images).sum(axis=1), 1.0)


def test_weights_are_those_of_fit(iris):
    images, names = StandardScaler().fit_transform(iris[0]), iris[1]
    weights = np.where(names == "virginica", 3.0, 1.0)
    plain, by_sample, by_class = (
        Classifier((8,), epochs=2, class_weight=given).fit(images, names, sample_weight=weighed).predict_proba(images)
        for given, weighed in ((None, None), (None, weights), ({"virginica": 3.0}, None))
    )
    np.testing.assert_array_equal(by_sample, by_class)
    assert by_class[:, 2].mean() > plain[:, 2].mean()
    for given, words in (({"rose": 2}, "there is no class 'rose'; there are setosa"), ("even", "must be 'balanced'")):
        with pytest.raises(ValueError, match=f"class_weight.*{words}"):
            Classifier((8,), class_weight=given).fit(images, names)
    with pytest.raises(ValueError, match=r"sample_weight: .* one above zero"):
        Classifier((8,)).fit(images, names, sample_weight=np.zeros(150))


def test_a_clone_is_not_trained(iris):
    model = Classifier((4, 3), dropout=0.1, epochs=1).fit(*iris)
    assert [layer.units for layer in model.network_.layers if hasattr(layer, "units")] == [4, 3, 3]
    with pytest.raises(NotFittedError):
        clone(model).predict(iris[0])


def test_one_class_is_not_enough(iris):
    with pytest.raises(ValueError, match="y: has one class only, setosa"):
        Classifier().fit(iris[0][:50], iris[1][:50])


def test_scikit_learn_is_imported_only_for_it():
    code = "import sys, xpnet; print('sklearn' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
