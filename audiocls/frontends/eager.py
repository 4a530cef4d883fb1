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


def needs_gradient(tensor: Tensor) -> bool:
    """Whether anything asks for a derivative by this tensor, backwards or forwards.

    >>> needs_gradient(torch.zeros(1)), needs_gradient(torch.zeros(1, requires_grad=True))
    (False, True)
    """
    return (torch.is_grad_enabled() and tensor.requires_grad) or has_tangent(tensor)


def has_tangent(tensor: Tensor) -> bool:
    """Whether a derivative goes forwards with this tensor, as in torch.autograd.forward_ad.

    >>> has_tangent(torch.zeros(1, requires_grad=True))
    False
    """
    return forward_ad.unpack_dual(tensor).tangent is not None
