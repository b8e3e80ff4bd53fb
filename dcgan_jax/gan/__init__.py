"""The mathematics: networks, losses, the training step, sampling. Functions of arrays, without files or clocks.

Read ``step.py`` first, then ``networks.py``, ``objectives.py``, ``augment.py``, ``state.py`` and ``sampling.py``;
``conv.py``, the one operation that had to be fast, last.
"""
