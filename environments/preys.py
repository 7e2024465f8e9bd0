"""Fixed policies of the preys in particle worlds: a script, and the networks that OMAR published with its data."""

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Environment variable: a directory with simple_tag.npz and simple_world.npz, see :func:`omar_prey`.
OMAR_PREYS = "OMAR_PREYS"
_LAYERS = ("fc1", "fc2", "fc3")
_SCALING = ("running_mean", "running_var", "weight", "bias")


def flee(preys: Floats, predators: Floats) -> Floats:
    """Where a prey pushes: away from the nearest predator p and back inside, as hard as it can.

    away = (x - p) / |x - p|^2, minus 10 max(0, |x| - 0.8) sign(x) per axis; push = away / max(|away_1|, |away_2|).

    Preys are faster than predators: one that is only run after gets away, and has to be surrounded.

    Args:
        preys: Positions x, (…, M, 2).
        predators: Positions, (…, P, 2).

    Returns:
        Pushes, (…, M, 2) in [-1, 1]; 0 where nothing drives the prey.
    """
    ways = preys[..., :, None, :] - predators[..., None, :, :]  # (…, M, P, 2)
    squares = (ways**2).sum(axis=-1, keepdims=True)
    nearest = squares.argmin(axis=-2, keepdims=True)
    away = np.take_along_axis(ways / np.maximum(squares, 1e-12), nearest, axis=-2)[..., 0, :]
    away = away - 10.0 * np.maximum(np.abs(preys) - 0.8, 0.0) * np.sign(preys)
    strongest = np.abs(away).max(axis=-1, keepdims=True)
    return np.where(strongest > 0.0, away / np.maximum(strongest, 1e-12), 0.0)


class PreyNetwork:
    """A prey's policy as OMAR trained it: inputs scaled by running statistics, three layers, ReLU between, tanh last.

    Args:
        weights: Arrays by the names that PyTorch gave them: "in_fn.running_mean", "fc1.weight" and so on.

    Raises:
        KeyError: If an array is missing.
    """

    def __init__(self, weights: dict[str, NDArray[np.floating]]) -> None:
        mean, variance, scale, shift = (np.asarray(weights[f"in_fn.{name}"], np.float64) for name in _SCALING)
        self._scale = scale / np.sqrt(variance + 1e-5)  # PyTorch's batch normalisation, evaluating
        self._shift = shift - mean * self._scale
        self._layers = [
            (np.asarray(weights[f"{name}.weight"], np.float64).T, np.asarray(weights[f"{name}.bias"], np.float64))
            for name in _LAYERS
        ]
        self.obs_dim = len(mean)

    def __call__(self, obs: Floats) -> Floats:
        """Pushes (…, 2) in [-1, 1] for observations (…, O); entries beyond the network's inputs are padding."""
        hidden = obs[..., : self.obs_dim] * self._scale + self._shift
        for weight, bias in self._layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0.0)
        weight, bias = self._layers[-1]
        pushes: Floats = np.tanh(hidden @ weight + bias)
        return pushes


def omar_prey(game: str) -> PreyNetwork | None:
    """The prey that OMAR's data was recorded against, if its weights are there.

    They come with OMAR's data as ``<game>/pretrained_adv_model.pt`` (also in OG-MARL's repository, under
    ``og_marl/custom_environments/multiagent_particle_envs/multiagent/adversaries``) and are converted once:

        python -c "import numpy, torch
        agents = torch.load('pretrained_adv_model.pt', map_location='cpu', weights_only=True)['agent_params']
        numpy.savez('simple_tag.npz', **{name: array.numpy() for name, array in agents[-1]['policy'].items()})"

    Args:
        game: "simple_tag" or "simple_world".

    Returns:
        The network in ``$OMAR_PREYS/<game>.npz``, or, with a warning, None if the variable is not set: then preys
        follow :func:`flee`, and returns cannot be compared with those of OMAR's data.

    Raises:
        FileNotFoundError: If the variable is set and the file is not there.
    """
    directory = os.environ.get(OMAR_PREYS)
    if directory is None:
        warnings.warn(
            f"the preys of mpe/{game}-omar follow a script, so returns cannot be compared with those of OMAR's data; "
            f"set {OMAR_PREYS} to a directory with {game}.npz, see environments.preys.omar_prey",
            stacklevel=2,
        )
        return None
    path = Path(directory) / f"{game}.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"expected OMAR's prey in '{path}', because {OMAR_PREYS} is set; convert it as "
            "environments.preys.omar_prey says, or unset the variable"
        )
    with np.load(path) as weights:
        return PreyNetwork(dict(weights))
