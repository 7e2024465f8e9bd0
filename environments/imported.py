"""A user's own environment and behaviour, named by the import path of a function that makes them.

**An environment** is whatever ``package.module:function`` returns when it is called without arguments: a PettingZoo
``ParallelEnv`` whose agents share one action space, ``Discrete(n)`` or a box of one axis from -1 to 1. What it leaves
out is filled in (:class:`environments.vector.ParallelVectorEnv`):

    infos[agent]["action_mask"]   the legal actions, (A,) with 1 = legal; without it, all are
    state()                       the global state, (S,); without it, the observations of all agents in a row
    infos[agent]["won"]           whether the episode was won; without it, nothing is said about winning

Equal seeds of ``reset(seed=...)`` and equal actions have to give equal episodes: then equal recordings do, too.

**A behaviour** is whatever ``package.module:function`` returns when it is called without arguments: a callable that
decides for all agents of E copies at once::

    def behaviour(obs, legal_actions, generator):
        # obs (E, N, O) float32, shorter observations padded with zeros; legal_actions (E, N, A) bool, all True if
        # actions are continuous; generator: a numpy.random.Generator, the only source of randomness it should use
        return actions  # (E, N) integers, all legal, or (E, N, A) floats in [-1, 1]

Where it needs a memory it may have a method ``reset(n_envs)``, which is called before new episodes begin.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from pettingzoo import ParallelEnv

from environments.vector import Array, VectorStep


def is_import_path(name: str) -> bool:
    """Whether a name is one of a function to import, rather than of something of ours."""
    return ":" in name


def import_function(path: str) -> Callable[[], Any]:
    """Import a function; modules in the current directory are found, too.

    Args:
        path: "package.module:function", such as "my_games.harvest:make".

    Returns:
        The function.

    Raises:
        ImportError: If there is no such module, or it cannot be imported.
        ValueError: If the path has another form, or the module has no such function.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name.isidentifier():
        raise ValueError(f"expected an import path 'package.module:function', got '{path}'")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: a file here hides no installed package
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ImportError(
            f"could not import '{module_name}' of '{path}' ({error}); run the command where the module is, or put its "
            "directory on PYTHONPATH"
        ) from error  # which may come from within the module
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(other for other in vars(module) if callable(vars(module)[other]) and other[0] != "_")
        raise ValueError(f"'{path}': expected a function '{name}' in '{module.__file__}'; there are: {there or 'none'}")
    made: Callable[[], Any] = function
    return made


def make_imported(path: str) -> ParallelEnv:
    """One copy of a user's environment.

    Args:
        path: "package.module:function"; the function makes one copy at each call.

    Returns:
        What the function returned.

    Raises:
        ImportError: If there is no such module.
        TypeError: If the function returns something other than an environment.
        ValueError: If there is no such function.
    """
    env = import_function(path)()
    missing = [part for part in ("possible_agents", "reset", "step", "action_space") if not hasattr(env, part)]
    if missing:
        raise TypeError(
            f"expected a PettingZoo ParallelEnv from '{path}()', got a {type(env).__name__} without "
            f"{' and '.join(missing)}; turn-based environments: pettingzoo.utils.turn_based_aec_to_parallel"
        )
    return env


class ImportedBehaviour:
    """A user's behaviour, as the recorder asks for it (:class:`environments.behaviours.Behaviour`).

    Args:
        path: "package.module:function"; the function makes the callable that decides.

    Raises:
        ImportError: If there is no such module.
        TypeError: If the function returns something that cannot be called.
        ValueError: If there is no such function.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._decide = import_function(path)()
        if not callable(self._decide):
            raise TypeError(
                f"expected '{path}()' to return a callable (obs, legal_actions, generator) -> actions, got a "
                f"{type(self._decide).__name__}"
            )

    def reset(self, n_envs: int) -> None:
        """Tell it that new episodes begin, if it wants to know."""
        if hasattr(self._decide, "reset"):
            self._decide.reset(n_envs)

    def act(self, shown: VectorStep, generator: np.random.Generator) -> Array:
        """Its decision; the recorder checks it."""
        return np.asarray(self._decide(shown.obs.copy(), shown.legal_actions.copy(), generator))
