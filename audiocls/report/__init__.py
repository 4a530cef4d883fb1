"""What a run writes into its folder and shows in W&B: tables, figures and the clips it got wrong."""

from audiocls.report.callback import RunReport

__all__ = ["RunReport"]
