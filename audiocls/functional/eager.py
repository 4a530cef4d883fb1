"""Whether tensors are what they seem: plain ones, with nothing that records, transforms or watches operations."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def is_eager(*tensors: Tensor) -> bool:
    """Whether tensors are plain ones, and nothing compiles, exports, traces, transforms, watches or derives forwards.

    >>> is_eager(torch.zeros(1)), torch.func.vmap(is_eager, out_dims=None)(torch.zeros(1))
    (True, False)
    """
    return (
        all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)  # not fake, wrapped or distributed ones
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        # no public name tells vmap, grad and jvp, nor a mode that sees every operation, such as a counter of flops
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and forward_ad._current_level < 0
    )
