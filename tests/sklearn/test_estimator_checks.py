"""The estimators pass scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from layered.sklearn import LayeredClassifier, LayeredRegressor

REPEATED = "a row that is repeated comes in other batches than a row of twice the weight"
EXCEPTIONS = {
    "check_do_not_raise_errors_in_init_or_set_params": "it takes the name of `**parts` for a parameter, which is refused",
    "check_sample_weight_equivalence_on_dense_data": REPEATED,
    "check_sample_weight_equivalence_on_sparse_data": REPEATED,
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [LayeredClassifier(max_epochs=4), LayeredRegressor(max_epochs=4)],
    expected_failed_checks=lambda estimator: EXCEPTIONS,
)
def test_scikit_learn_accepts(estimator, check):
    check(estimator)
