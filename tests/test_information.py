"""Proposition 1 on generated joints, and each side of it against sums in plain Python and closed forms."""

import itertools
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from lib import information, interactions

LOG2 = math.log(2)


@st.composite
def joints(draw, most=4):
    """A joint of 2 to ``most`` variables with 1 to 3 states each; some with a share of impossible combinations."""
    n = draw(st.integers(2, most))
    shape = [*draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)), draw(st.integers(2, 3))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) ** draw(st.sampled_from([1, 10]))
    impossible = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.5]))
    weights[impossible] = 0
    weights.view(-1)[0] += 0.1
    return weights / weights.sum()


def joint_of(n, rule):
    """n independent fair bits and Y = rule(bits) in {0, 1}."""
    joint = torch.zeros([2] * (n + 1), dtype=torch.float64)
    for bits in itertools.product((0, 1), repeat=n):
        joint[(*bits, rule(bits))] = 2**-n
    return joint


def brute_marginal(joint, axes):
    """A dict from the states of the axes to their probability."""
    result = {}
    for states in itertools.product(*map(range, joint.shape)):
        key = tuple(states[axis] for axis in axes)
        result[key] = result.get(key, 0.0) + joint[states].item()
    return result


def brute_entropy(joint, axes):
    return entropy(list(brute_marginal(joint, sorted(axes)).values()))


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@given(joints(most=5))
def test_proposition_1(joint):
    """I_ij^(m) of v = H(Y|X_S) is the mean co-information given X_S: every pair and order."""
    interaction = interactions.exact_interactions(information.entropy_values(joint))
    close(interaction, information.order_co_information(joint))


@given(joints())
def test_the_values_are_conditional_entropies(joint):
    """v(S) = Σ p(x_S) H(Y|X_S = x_S), the expectation of the paper, at the number whose bit i says that i is in S."""
    n = joint.ndim - 1
    values = information.entropy_values(joint)
    assert values.shape == (2**n,) and values.dtype == torch.float64
    for number, value in enumerate(values.tolist()):
        inside = [i for i in range(n) if number >> i & 1]
        with_y = brute_marginal(joint, [*inside, n])
        expected = 0.0
        for state, probability in brute_marginal(joint, inside).items():
            if probability > 0:
                expected += probability * entropy([with_y[(*state, y)] for y in range(joint.shape[n])])
        assert value == pytest.approx(expected, abs=1e-12)


@given(joints(), st.data())
def test_mutual_information_is_that_of_the_definition(joint, data):
    axes = data.draw(st.permutations(range(joint.ndim)))
    cuts = sorted(data.draw(st.lists(st.integers(1, joint.ndim), min_size=2, max_size=2)))
    a, b, c = axes[: cuts[0]], axes[cuts[0] : cuts[1]], axes[cuts[1] :]
    all_three, given_c = brute_marginal(joint, [*a, *b, *c]), brute_marginal(joint, c)
    with_a, with_b = brute_marginal(joint, [*a, *c]), brute_marginal(joint, [*b, *c])
    expected = 0.0
    for state, probability in all_three.items():
        of_a, of_b, of_c = state[: len(a)], state[len(a) : len(a) + len(b)], state[len(a) + len(b) :]
        if probability > 0:
            ratio = probability * given_c[of_c] / (with_a[of_a + of_c] * with_b[of_b + of_c])
            expected += probability * math.log(ratio)
    assert information.mutual_information(joint, a, b, c).item() == pytest.approx(expected, abs=1e-12)


@given(joints(), st.data())
def test_co_information_is_the_alternating_sum_of_entropies(joint, data):
    """Symmetric in X_i, X_j and Y; nothing in it is a difference of v."""
    n = joint.ndim - 1
    i, j, *rest = data.draw(st.permutations(range(n)))
    s = set(rest[: data.draw(st.integers(0, n - 2))])

    def h(*axes):
        return brute_entropy(joint, s | set(axes))

    expected = h(i) + h(j) + h(n) - h(i, j) - h(i, n) - h(j, n) + h(i, j, n) - h()
    assert information.co_information(joint, i, j, s).item() == pytest.approx(expected, abs=1e-12)


def test_two_bits_that_make_y_together_have_negative_co_information():
    """Y = X_0 xor X_1: synergy of −log 2, and a third bit that does not matter changes nothing."""
    joint = joint_of(3, lambda bits: bits[0] ^ bits[1])
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    expected[:, 0, 1] = expected[:, 1, 0] = -LOG2
    close(information.order_co_information(joint), expected)


def test_two_copies_of_y_have_positive_co_information():
    """X_0 = X_1 = Y: redundancy of log 2."""
    joint = torch.zeros(2, 2, 2, dtype=torch.float64)
    joint[0, 0, 0] = joint[1, 1, 1] = 0.5
    assert information.co_information(joint, 0, 1).item() == pytest.approx(LOG2)


def test_parity_interacts_only_in_the_full_context():
    """Y the parity of four bits: nothing is known of it until all are, so that only the highest order is not 0."""
    interaction = information.order_co_information(joint_of(4, lambda bits: sum(bits) % 2))
    off = ~torch.eye(4, dtype=torch.bool)
    close(interaction[:2], torch.zeros(2, 4, 4, dtype=torch.float64))
    close(interaction[2][off], torch.full((12,), -LOG2, dtype=torch.float64))


def test_counts_of_single_precision_are_computed_in_double():
    joint = torch.full((2, 2, 2), 0.125)
    joint[0, 0, 0], joint[1, 1, 1] = 0.0625, 0.1875
    assert torch.equal(information.entropy_values(joint), information.entropy_values(joint.double()))
    assert torch.equal(information.order_co_information(joint), information.order_co_information(joint.double()))


@pytest.mark.parametrize(
    ("call", "axis"),
    [
        (lambda table: information.mutual_information(table, [0], [-1]), -1),
        (lambda table: information.mutual_information(table, [0], [2], [3]), 3),
        (lambda table: information.co_information(table, 0, 5), 5),
    ],
)
def test_an_axis_that_the_joint_does_not_have_is_refused(call, axis):
    """Summed over with the others it would give 0, which is an answer too."""
    with pytest.raises(ValueError, match=rf"the axes of this joint are 0\.\.2, the last of them Y; got {axis}"):
        call(torch.full((2, 2, 2), 0.125))


@pytest.mark.parametrize(("i", "j", "given"), [(0, 0, []), (0, 1, [1]), (0, 2, []), (0, 1, [2])])
def test_co_information_is_of_different_axes(i, j, given):
    with pytest.raises(ValueError, match=rf"are different ones; got {i}, {j}, 2 and {re.escape(str(given))}"):
        information.co_information(torch.full((2, 2, 2), 0.125), i, j, given)


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        (torch.full((2, 2), 0.25), r"an axis for each of n ≥ 2 variables .*; got \(2, 2\) of torch\.float32"),
        (torch.ones(2, 2, 2, dtype=torch.int64), r"a joint is a float table .*; got \(2, 2, 2\) of torch\.int64"),
        (torch.ones(2, 2, 2), r"sum to 1; got a least one of 1 and a sum of 8: divide counts by their sum"),
        (torch.tensor([[[-0.5, 0.5], [0.5, 0.5]]]), r"are at least 0 .*; got a least one of -0\.5 and a sum of 1:"),
        (torch.full((2, 2, 2), torch.nan), r"are at least 0 .*; got a least one of nan"),
    ],
)
def test_one_clear_error(joint, message, empty_folder):
    for call in (
        information.entropy_values,
        information.order_co_information,
        lambda table: information.co_information(table, 0, 1),
    ):
        with pytest.raises(ValueError, match=message):
            call(joint)
