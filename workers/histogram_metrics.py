"""The store's histograms in Prometheus' words. Knows nothing of Redis: fields of the hash in, families out."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily

from taskvisor.state.histograms import Histogram, HistogramName, histograms_in


def histogram_families(fields: Mapping[str, int]) -> Iterator[HistogramMetricFamily]:
    """A family for every histogram that there is; those in which nothing was counted yet are empty."""
    found = histograms_in(fields)
    for name in HistogramName:
        family = HistogramMetricFamily(f"taskvisor_{name.value}_seconds", name.sentence, labels=name.labels)
        for one in found:
            if one.name is name:
                family.add_metric(one.labels, _buckets_of(one), one.sum_s)
        yield family


def _buckets_of(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts up: each bound with all that took no longer."""
    bounds = (*map(str, histogram.name.bounds_s), "+Inf")
    return [(bound, float(total)) for bound, total in zip(bounds, accumulate(histogram.counts), strict=True)]
