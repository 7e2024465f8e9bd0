import numpy as np
import pytest

from datamodules.normalisation import Standardisation


def test_mean_and_spread_by_hand() -> None:
    scaling = Standardisation.fit([np.array([[0.0, 10.0], [2.0, 10.0]], dtype=np.float32)])
    assert scaling.mean.tolist() == [1.0, 10.0]
    assert scaling.std.tolist() == [1.0, 1.0]  # the constant column keeps its scale
    assert scaling.transform(np.array([[4.0, 11.0]], dtype=np.float32)).tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("cuts", [[], [1], [7, 8, 30], list(range(50))])
def test_pieces_are_merged_agents_pooled_and_the_inverse_undoes_it(cuts: list[int]) -> None:
    values = np.random.default_rng(0).normal(5.0, 3.0, size=(50, 3, 4)).astype(np.float32)
    values[25:] += 100.0  # pieces with very different means
    scaling = Standardisation.fit(np.split(values, cuts))
    np.testing.assert_allclose(scaling.mean, values.reshape(-1, 4).mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(scaling.std, values.reshape(-1, 4).std(axis=0, dtype=np.float64), rtol=1e-6)
    standard = scaling.transform(values)
    np.testing.assert_allclose(standard.mean(axis=(0, 1)), 0.0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=(0, 1)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scaling.inverse(standard), values, rtol=1e-5, atol=1e-5)


def test_rounding_of_a_large_constant_is_not_a_spread() -> None:
    values = np.array([[1e6], [1e6], [1e6 + 0.0625]], dtype=np.float32)
    assert Standardisation.fit([values]).std.tolist() == [1.0]


def test_a_small_column_is_scaled_like_any_other() -> None:
    values = np.array([[1e-8], [-1e-8]], dtype=np.float32)
    np.testing.assert_allclose(Standardisation.fit([values]).transform(values), [[1.0], [-1.0]], rtol=1e-5)


def test_nothing_to_fit_on() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Standardisation.fit([np.zeros((0, 3), dtype=np.float32)])
