"""Reward model, SFT, DPO and PPO in plain torch: pure maths, one visible loop a stage, distributed code in one file."""
