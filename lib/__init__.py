"""Interactions, attacks and defences: the executable replication of Ren et al. (NeurIPS 2021).

Read the modules in the order of the data: datasets (imagenet, pointnet), models, training; players, game, sampling,
interactions, designs, estimators (surrogate for few players); attacks, controls; statistics, results, experiments,
pair_experiments, disentanglement, contexts, robustness; claims, exact, plots, ledger, predictions; widgets. Beside
them, for §4: information, spectrum, defenses, detection and their defense_experiments. Imports run in that direction only.
"""

__version__ = "0.1.0"
