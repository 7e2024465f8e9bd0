"""QTRAN's two conditions: the sum of what agents expect has to rank joint actions as the team's value does."""

from __future__ import annotations

from torch import Tensor


def qtran_optimality_loss(summed_utilities: Tensor, joint_value: Tensor, state_value: Tensor) -> Tensor:
    """At the joint action ā that agents would choose, their sum and the team's value agree.

    L_opt = (Σ_i Q_i(ā_i) - sg Q_jt(ā) + V(s))²        (QTRAN, Son et al., arXiv:1905.05408)

    Args:
        summed_utilities: Σ_i max_a Q_i(a), shape (…).
        joint_value: Q_jt(ā), shape (…); detached here, so that the team's value learns from rewards alone.
        state_value: V(s), shape (…), which makes up for what agents cannot see.

    Returns:
        Elementwise loss, shape (…); not reduced.
    """
    return (summed_utilities - joint_value.detach() + state_value).square()


def qtran_bound_loss(summed_utilities: Tensor, joint_value: Tensor, state_value: Tensor) -> Tensor:
    """At any other joint action the sum may be larger than the team's value, but not smaller.

    L_nopt = min(Σ_i Q_i(a_i) - sg Q_jt(a) + V(s), 0)²        (QTRAN-base, Son et al., arXiv:1905.05408)

    With both, ā is the best joint action of Q_jt, whatever Q_jt is.

    Args:
        summed_utilities: Σ_i Q_i(a_i) of a joint action, shape (…).
        joint_value: Q_jt(a), shape (…); detached here.
        state_value: V(s), shape (…).

    Returns:
        Elementwise loss, shape (…); not reduced.
    """
    return (summed_utilities - joint_value.detach() + state_value).clamp(max=0).square()
