"""Whether a call may look at numbers and write into buffers: on a processor, and outside of any trace."""

import torch
from torch import Tensor


def is_eager_on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor is a plain one in main memory, and nothing compiles, exports, traces or transforms the call.

    >>> is_eager_on_cpu(torch.zeros(1)), torch.func.vmap(is_eager_on_cpu, out_dims=None)(torch.zeros(1))
    (True, False)
    """
    return (
        tensor.device.type == "cpu"
        and type(tensor) is Tensor  # not a fake, wrapped or distributed one
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not torch._C._are_functorch_transforms_active()  # no public name tells vmap, grad and jvp
    )
