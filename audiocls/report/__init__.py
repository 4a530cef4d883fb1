"""What a run writes into its folder and shows in W&B: tables, figures and the clips it got wrong.

Nothing is imported here: `style`, which draws the charts of the tools as well, answers without torch.
"""
