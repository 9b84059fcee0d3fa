"""The encoder's frozen matrices in oneDNN's own layout, for its pass on CPUs.

Plain products put a matrix into such a layout at every call.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ._t5_parts import FrozenOps

# Where this was measured.  It is not decided by time: the two ways differ by rounding,
# and the same text is to have the same bytes in every process of a machine.
CAPABILITIES = ("AVX512",)
PROBED = (8, 16, 32)  # rows, inputs and outputs of the product that is tried


class PackedOps(FrozenOps):
    """Operations with frozen weights, of which the matrices are packed on first use.

    Parameters
    ----------
    weights : dict of str to Tensor
        All weights.
    epsilon : float
        Of the norms.
    packed : dict of str to Tensor
        The packed matrices, by the weights' names; new ones are added.
    """

    def __init__(
        self, weights: dict[str, Tensor], epsilon: float, packed: dict[str, Tensor]
    ) -> None:
        super().__init__(weights, epsilon)
        self.packed = packed

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Apply the weight ``name`` to the last axis of rows (n, inputs)."""
        if name not in self.packed:
            self.packed[name] = _packed(self.weights[name], len(x))
        return _product(x, self.packed[name])


def can_pack(weights: dict[str, Tensor]) -> bool:
    """Return whether products with packed weights are to be had, and to be used."""
    one = next(iter(weights.values()))
    return one.device.type == "cpu" and one.dtype == torch.float32 and _works()


@cache
def _works() -> bool:
    if torch.backends.cpu.get_cpu_capability() not in CAPABILITIES:
        return False
    n_rows, n_inputs, n_outputs = PROBED
    rows = torch.arange(n_rows * n_inputs, dtype=torch.float32).reshape(n_rows, -1)
    weight = torch.arange(n_outputs * n_inputs, dtype=torch.float32)
    weight = weight.reshape(n_outputs, -1).remainder(7)
    try:
        found = _product(rows, _packed(weight, n_rows))
    except (AttributeError, RuntimeError, TypeError):  # of other releases of torch
        return False
    return torch.allclose(found, rows @ weight.T)


def _packed(weight: Tensor, n_rows: int) -> Tensor:
    # The operations by which torch's compiler freezes a model's weights.
    return torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)  # noqa: SLF001


def _product(x: Tensor, packed: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
        x, packed, None, "none", [], ""
    )
