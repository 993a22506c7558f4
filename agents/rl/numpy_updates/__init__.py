"""Updates of the off-policy agents written out in NumPy, for they pay.

With the library's own updates an agent takes 26.7 (ddpg), 26.1 (td3) and 33.7 % (sac) of a search
where evaluations are shortest (0.057 s), with these 15.9, 16.2 and 19.4 %: 10 to 14 points less.
``python -m benchmarks.agent_share``: resnet8 on digits, 30 % of the MACs, reconstruct, one core of
an Intel Xeon with AVX-512, 3 seeds of 60 episodes.
"""
