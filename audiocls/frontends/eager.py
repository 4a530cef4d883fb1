"""Whether a call may look at numbers and write into buffers: on a processor, untraced, without gradients or hooks."""

from typing import Any

import torch
from torch import Tensor, nn

from audiocls.functional.eager import is_eager

_MODULES: Any = nn.modules.module  # its stubs do not know all that is asked here


def is_eager_on_cpu(*tensors: Tensor) -> bool:
    """Whether tensors are plain ones in main memory, and nothing compiles, exports, traces, transforms or watches.

    >>> is_eager_on_cpu(torch.zeros(1)), torch.func.vmap(is_eager_on_cpu, out_dims=None)(torch.zeros(1))
    (True, False)
    """
    return all(tensor.is_cpu for tensor in tensors) and is_eager(*tensors)


def is_plain(*values: float | Tensor) -> bool:
    """Whether all tensors among these are plain ones in main memory by which nothing asks for a derivative.

    >>> is_plain(torch.zeros(1), 2.0), is_plain(torch.zeros(1, requires_grad=True))
    (True, False)
    """
    tensors = [value for value in values if isinstance(value, Tensor)]
    backward = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return is_eager_on_cpu(*tensors) and not backward


def has_hooks(*modules: nn.Module) -> bool:
    """Whether something waits for calls of modules, so that these may not be left out; pruning, too, works by that.

    >>> has_hooks(nn.Identity())
    False
    """
    return _MODULES._has_any_global_hook() or any(
        module._forward_pre_hooks or module._forward_hooks or module._backward_pre_hooks or module._backward_hooks
        for module in modules
    )
