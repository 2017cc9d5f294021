"""An exponential moving average of the weights: what is measured and saved is calmer than the last step.

After t updates the average is the sum of (1 - decay) decay^(t - i) w_i, divided by 1 - decay^t (the correction of Kingma and Ba 2015,
section 3, https://arxiv.org/abs/1412.6980): a true weighted mean from the first step on, in which the weights before training have no
part. It reaches back about 1 / (1 - decay) steps.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.training import sharding

if TYPE_CHECKING:
    import torch

_COUNT = "updates"


class Averages:
    """The average of each parameter, float32 beside it.

    Attributes:
        updates: how many steps are in it.
    """

    def __init__(self, parameters: Mapping[str, "torch.nn.Parameter"], decay: float) -> None:
        """Args: parameters: by name; they stay the caller's. decay: 0 to below 1."""
        self._parameters, self._decay, self.updates = dict(parameters), decay, 0
        self._means = {name: parameter.detach().float().clone() for name, parameter in self._parameters.items()}

    def update(self) -> None:
        """Take the parameters as they are now into the average; call it after each step of the optimiser."""
        import torch

        self.updates += 1
        weight = (1 - self._decay) / (1 - self._decay**self.updates)
        for divided in (False, True):  # no one call takes both kinds
            names = [name for name, mean in self._means.items() if sharding.is_divided(mean) is divided]
            if names:
                torch._foreach_lerp_([self._means[name] for name in names],
                                     [self._parameters[name].detach().float() for name in names], weight)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Within the block the parameters have their averages' values; afterwards their own again, to the last bit."""
        import torch

        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(own[name])

    def settle(self) -> None:
        """Leave the averages in the parameters, for good; before the first update nothing changes."""
        import torch

        if not self.updates:
            return
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._means[name])

    def state_tensors(self) -> dict[str, "torch.Tensor"]:
        """The averages by the parameters' names, and `updates`; the living tensors."""
        import torch

        return {**{f"mean:{name}": mean for name, mean in self._means.items()}, _COUNT: torch.tensor(self.updates)}

    def load_state(self, tensors: Mapping[str, "torch.Tensor"]) -> None:
        """Put back what `state_tensors` gave; LabError where it is of other parameters."""
        if set(tensors) != {_COUNT, *(f"mean:{name}" for name in self._means)}:
            raise LabError("the averages in the checkpoint are of other parameters; delete it to begin anew")
        for name, mean in self._means.items():
            kept = tensors[f"mean:{name}"]
            if kept.shape != mean.shape:
                raise LabError(f"the average of {name} in the checkpoint is {tuple(kept.shape)}, not {tuple(mean.shape)}")
            sharding.put(mean, kept)
        self.updates = int(tensors[_COUNT])
