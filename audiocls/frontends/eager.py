"""Whether a call may look at numbers and write into buffers: on a processor, untraced, without gradients."""

import torch
from torch import Tensor
from torch.autograd import forward_ad


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


def is_plain(*values: float | Tensor) -> bool:
    """Whether all tensors among these are plain ones in main memory by which nothing asks for a derivative.

    >>> is_plain(torch.zeros(1), 2.0), is_plain(torch.zeros(1, requires_grad=True))
    (True, False)
    """
    return all(
        is_eager_on_cpu(value) and not (torch.is_grad_enabled() and value.requires_grad) and not has_tangent(value)
        for value in values
        if isinstance(value, Tensor)
    )


def has_tangent(tensor: Tensor) -> bool:
    """Whether a derivative goes forwards with this tensor, as in torch.autograd.forward_ad.

    >>> has_tangent(torch.zeros(1, requires_grad=True))
    False
    """
    return forward_ad.unpack_dual(tensor).tangent is not None
