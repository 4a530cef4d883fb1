"""What a process may hold."""

from __future__ import annotations

import os
import resource

import pytest

from datamodules.processes import memory_limit


def test_memory_is_the_machine_s_or_what_ulimit_leaves_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < memory_limit() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, resource.RLIM_INFINITY))
    assert memory_limit() == 1 << 20
