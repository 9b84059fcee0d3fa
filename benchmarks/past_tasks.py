"""Rank models by their gains on past tasks: static list, similar tasks, or none.

    python benchmarks/past_tasks.py [--data DIR] [--archives DIR] [--texts 2000]

Past tasks are the domains of a bed (see ``beds.py``) but one, which is the target; the
gains are the models' accuracies there, on other rows than those that describe a domain.
Models of the target's domain are left out, and so are a past task's own models when it
counts: they would be at home there.  Where they are left out, their gain is the mean of
the others' on that task.  Prints, for each target, the rank correlation of the true
accuracies with the static list (mean past gains), with ``ModelRanker().fit(E, gains)``
(E: moment embeddings of the domains), the weight that it gives to similar tasks, and
with the expected scores of `rank_models`, which use no past task; at last the share of
gains that lie in its conformal intervals.  A random ranking has the correlation 0.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
from beds import LOADERS, Bed, bed_arguments, make_bed

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    TaskVectorizer,
    rank_models,
)
from fute_sklearn.metrics import spearman_score


def gains_of(bed: Bed) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies of the models on the domains, and those that count as past gains."""
    gains = pd.DataFrame(
        {
            key: [
                float(np.mean(model.predict(list(test.texts)) == test.y))
                for test in (part["test"] for part in bed.parts.values())
            ]
            for key, model in bed.zoo.items()
        },
        index=list(bed.parts),
    )
    home = gains.copy().astype(bool)
    for name in gains:
        home[name] = [name.endswith(f"| {domain}") for domain in gains.index]
    past = gains.mask(home)
    return gains, past.apply(lambda row: row.fillna(row.mean()), axis=1)


def main() -> None:
    parser = bed_arguments(__doc__)
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    for name in LOADERS:
        bed = make_bed(name, args.data, args.archives, args.texts, 0)
        labelled = bed.labelled()
        vectorizer = TaskVectorizer(MomentEmbedder(reference=bed.texts))
        places = vectorizer.fit_transform(list(bed.targets.values()))
        gains, past = gains_of(bed)
        found, held = [], []
        print(f"{name:24s} static  similar (weight)  expected scores")
        for i, target in enumerate(gains.index):
            rest = [j for j in range(len(gains)) if j != i]
            models = bed.others(target)
            ranker = ModelRanker().fit(
                np.asarray(places)[rest], past.iloc[rest][models]
            )
            here = np.asarray(places)[[i]]
            truth = gains.loc[target, models].to_numpy()
            score = ranker.decision_function(here)[0]
            low, high = ranker.predict_interval(here, 0.8)
            held.append(np.mean((low[0] <= truth) & (truth <= high[0])))
            table = rank_models(
                {key: labelled[key] for key in models},
                bed.targets[target],
                texts=bed.texts,
                students="closed",
            )
            expected = table["score"][models].to_numpy()
            values = (ranker.static_scores_, score, expected)
            found.append([spearman_score(truth, one) for one in values])
            a, b, c = found[-1]
            weight = ranker.similarity_weight_
            print(f"  {target:22s}{a:7.2f}{b:9.2f} ({weight:.2f}){c:14.2f}", flush=True)
        a, b, c = np.mean(found, axis=0)
        print(f"  {'mean':22s}{a:7.2f}{b:9.2f}{c:21.2f}")
        print(f"  80 % intervals hold {np.mean(held):.2f}", flush=True)


if __name__ == "__main__":
    main()
