"""Small text classifiers in plain torch, for ``candidates.py``."""

import torch
from torch import nn

WIDTH = 48


class Convolution(nn.Module):
    """Convolution of word vectors, the largest value of each filter, and a layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(size, WIDTH, padding_idx=0)
        self.filters = nn.Conv1d(WIDTH, 64, 3, padding=1)
        self.out = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 2))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2) of word numbers (n, length)."""
        found = torch.relu(self.filters(self.words(ids).mT))
        return self.out(found.amax(2))


class Recurrent(nn.Module):
    """LSTM over word vectors in both directions, and a layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(size, WIDTH, padding_idx=0)
        self.lstm = nn.LSTM(WIDTH, 32, batch_first=True, bidirectional=True)
        self.out = nn.Linear(64, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2) of word numbers (n, length)."""
        return self.out(self.lstm(self.words(ids))[0].amax(1))
