import numpy as np
import pytest

from cgnl_mm import compat

compat.apply()


def test_mmaction_recall_curve():
    """np.trapz, in the average recall of temporal localisation."""
    accuracy = pytest.importorskip('mmaction.evaluation.functional.accuracy')
    truth = {'a': np.array([[0.0, 1.0], [4.0, 6.0]])}
    perfect = {'a': np.array([[0.0, 1.0, 0.9], [4.0, 6.0, 0.8]])}
    *_, area = accuracy.average_recall_at_avg_proposals(truth, perfect, 2)
    missed = {'a': np.array([[8.0, 9.0, 0.9], [9.0, 10.0, 0.8]])}
    *_, nothing = accuracy.average_recall_at_avg_proposals(truth, missed, 2)
    assert area > 0.5 and nothing == 0


def test_mmpretrain_retrieval():
    """np.in1d, in RetrievalAveragePrecision."""
    retrieval = pytest.importorskip('mmpretrain.evaluation.metrics.retrieval')
    # relevant at ranks 1 and 3 of 3: (1/1 + 2/3) / 2
    score = retrieval.RetrievalAveragePrecision.calculate(
        [[0, 1, 2]], [[0, 2]], 3, True, True
    )
    assert float(score) == pytest.approx(100 * (1 + 2 / 3) / 2)
