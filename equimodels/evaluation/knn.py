"""What the nearest neighbours of a sample say about its class.

Shapes: n samples, D features, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from equimodels.errors import require

ROWS = 1024  # test samples at a time, so that memory is ROWS x n and not n x n


@torch.no_grad()
def knn_predict(
    features: Tensor, labels: Tensor, test_features: Tensor, *, neighbours: int = 10, temperature: float = 0.07
) -> Tensor:
    """Vote of the `neighbours` most similar training samples, each with weight exp(similarity / temperature).

    features: (n, D), labels: (n,) int64 from 0; test_features: (m, D). Similarity is the cosine after the training mean
    is taken off: features behind an adaLN share a large mean, and without this all cosines are near 1. Returns (m,)
    int64. Oquab et al. 2023 (DINOv2). Raises SettingError for neighbours outside 1..n or a temperature that is not
    positive.
    """
    require(1 <= neighbours <= len(features), "neighbours", neighbours, f"from 1 to {len(features)}, the samples")
    require(temperature > 0, "temperature", temperature, "positive")
    mean = features.double().mean(dim=0)
    gallery = F.normalize(features.double() - mean, dim=1)
    classes = int(labels.max()) + 1
    predicted = []
    for rows in torch.split(test_features.double(), ROWS):
        similarity, nearest = (F.normalize(rows - mean, dim=1) @ gallery.T).topk(neighbours, dim=1)
        # Relative to the nearest: exp(1 / temperature) itself overflows below a temperature of 0.0015.
        weight = torch.exp((similarity - similarity[:, :1]) / temperature)
        votes = weight.new_zeros(len(rows), classes).scatter_add_(1, labels[nearest], weight)
        predicted.append(votes.argmax(dim=1))
    return torch.cat(predicted)


def knn_accuracy(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    neighbours: int = 10,
    temperature: float = 0.07,
) -> float:
    """Share of test samples whose class `knn_predict` finds, 0 to 1."""
    predicted = knn_predict(features, labels, test_features, neighbours=neighbours, temperature=temperature)
    return float((predicted == test_labels).double().mean())
