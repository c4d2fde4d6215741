"""The linear probe: multinomial logistic regression on frozen features."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

COSTS = np.logspace(-6, 5, 45)
MOST_STEPS = 1000
_SMALL = 2**22
"""Elements of a training part below which one thread is faster than several."""


def linear_scores(
    train: Floats, labels: Ints, test: Floats, validation: NDArray[np.bool_], classes: int
) -> tuple[NDArray[np.float64], float]:
    """Fit on the training part, with scikit-learn's C chosen on a part of it, and score the test part.

    This follows DINOv2's logistic regression (arXiv 2304.07193, section 7). There are 45 values of C,
    log-spaced from 1e-6 to 1e5. The best is fitted again on all of the training part.

    Differs from the paper: features are standardised on the training part first. C is chosen by balanced
    accuracy, the smallest of equals. The path over C is warm-started.

    The training part is (n, d), with labels (n,) from 0. C is chosen on its rows in `validation` (n,).
    Returns probabilities of the test part (t, classes), 0 for a class that `labels` lacks, and the chosen C.
    """
    scaler = StandardScaler().fit(train.astype(np.float64))
    train, test = scaler.transform(train), scaler.transform(test)
    fitted, best, cost = ~validation, -1.0, float(COSTS[0])
    path = LogisticRegression(max_iter=MOST_STEPS, warm_start=True)
    # Threads that wait for each other on a busy machine made the fits of a small part 25 times slower.
    with threadpool_limits(1 if train.size < _SMALL else None, "blas"), warnings.catch_warnings():
        # With a large C the fit may not converge; its last digits change no prediction.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The validation part may lack a predicted class, or have only one class.
        warnings.filterwarnings("ignore", "y_pred contains classes|A single label was found", UserWarning)
        for value in COSTS.tolist():
            path.set_params(C=value).fit(train[fitted], labels[fitted])
            guess = path.predict(train[validation])
            score = float(balanced_accuracy_score(labels[validation], guess))
            if score > best:
                best, cost = score, value
        final = LogisticRegression(C=cost, max_iter=MOST_STEPS).fit(train, labels)
    scores = np.zeros((len(test), classes))
    scores[:, final.classes_] = final.predict_proba(test)
    return scores, cost
