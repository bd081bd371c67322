"""Interactions, attacks and defences: the executable replication of Ren et al. (NeurIPS 2021).

Read the modules in the order of the data; each imports only from those before it:

    files, imagenet, imagenet_weights, pointnet, datasets, meshes, models, attacks, training; players, game, sampling,
    interactions, designs, estimators, surrogate; controls, statistics, results, experiments, renewal,
    pair_experiments, disentanglement, contexts, singles, robustness; information, spectrum, defenses, detection,
    defense_experiments; claims, exact, plots, ledger, predictions; views, widgets; notebooks, key_numbers, pages,
    book; command_line.
"""

__version__ = "0.1.0"
