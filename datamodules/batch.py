"""The batch that every algorithm receives: one named tuple, its axes written down once."""

from typing import NamedTuple

from torch import Tensor


class TeamBatch(NamedTuple):
    """A batch of windows from recorded team play.

    Axes, always in this order: ``B`` windows in the batch, ``T`` consecutive steps of one episode, ``N`` agents, then
    the length of the vector: ``O`` observation, ``S`` state, ``A`` action (its size if continuous, the number of
    choices if discrete). ``T = 2`` is the usual transition: position 0 is the step, position 1 the one after it.

    A window starts at every step of every episode and never crosses an episode's end: positions behind the end repeat
    the last step and have ``valid = False``. Learning happens at positions ``0 .. T-2``; position ``T-1`` is only
    looked at for its value. So with ``T = 2`` every recorded step, the last of its episode included, is position 0
    exactly once.

    Whether a step has a temporal-difference target:

    =============================  ==================  ============================================
    step ``t``                     ``valid[t+1]``      target
    =============================  ==================  ============================================
    inside an episode              True                reward + discount x value of ``t+1``
    terminal (the task is over)    False               reward alone
    truncated (only cut off)       False               none: the recording holds no next observation
    =============================  ==================  ============================================

    that is, ``valid[t] & (terminals[t] | valid[t+1])``.

    Attributes:
        obs: What each agent saw, (B, T, N, O) float32.
        state: What a central observer saw, (B, T, S) float32. ``S = N * O`` where the recording holds no state and the
            observations of all agents, concatenated, take its place.
        actions: What each agent did: (B, T, N) int64 if discrete, else (B, T, N, A) float32 in [-1, 1].
        rewards: Team reward of the step, (B, T) float32: the mean over the agents' rewards, times the reward scale.
        returns: Return of the whole episode that the step is from, (B, T) float32: the sum of its ``rewards``, those
            before the step included, so that it is the same at all steps of an episode.
        terminals: (B, T) bool. True where the task ended at this step for any agent; there is no value behind it.
        truncations: (B, T) bool. True where the episode was cut off at this step for any agent, for example by a step
            limit.
        legal_actions: What each agent was allowed to do, (B, T, N, A) bool. If continuous True, but for entries that
            only pad the action of an agent with fewer of them.
        advantages: Advantage of the joint action, (B, T) float32; NaN until the data has been labelled.
        credits: Each agent's share in that advantage, (B, T, N) float32; NaN until an algorithm has found it.
        valid: (B, T) bool. False on padding; every mean over a batch leaves those positions out.
    """

    obs: Tensor
    state: Tensor
    actions: Tensor
    rewards: Tensor
    returns: Tensor
    terminals: Tensor
    truncations: Tensor
    legal_actions: Tensor
    advantages: Tensor
    credits: Tensor
    valid: Tensor
