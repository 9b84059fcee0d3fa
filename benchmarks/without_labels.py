"""Measure what can be said of models for targets without labels.

    python benchmarks/without_labels.py [--data DIR] [--archives DIR] [--texts 2000]

For every target of the beds (see ``beds.py``) the models of all other domains are
compared without the target's labels.  Prints the rank correlation with their accuracy
of ``agreement`` and of the negative ``training_distance`` (to the rows that the models
were trained on), the only things that `rank_models` gives without labels, beside that
of the label prior, which knows the shares of the target's labels and looks at no text,
that of the ranking with labels, and the random one's, which is 0.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
from beds import LOADERS, bed_arguments, make_bed

from fute_sklearn import MomentEmbedder, rank_models
from fute_sklearn.metrics import spearman_score


def main() -> None:
    parser = bed_arguments(__doc__)
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    print(json.dumps({name: str(value) for name, value in vars(args).items()}))
    for name in LOADERS:
        bed = make_bed(name, args.data, args.archives, args.texts, 0)
        labelled = bed.labelled()
        found = []
        print(f"{name:28s} agreement   distance  label prior  with labels")
        for target, parts in bed.parts.items():
            models = {key: labelled[key] for key in bed.others(target)}
            options = {"texts": bed.texts, "embedder": MomentEmbedder()}
            known, test = parts["known"], parts["test"]
            seen = {
                key: list(bed.parts[key.split(" | ")[1]]["train"].texts)
                for key in models
            }
            free = rank_models(
                models, list(known.texts), training_texts=seen, **options
            )
            table = rank_models(models, known, baselines=["prior"], **options)
            gains = [
                float(np.mean(bed.zoo[key].predict(list(test.texts)) == test.y))
                for key in models
            ]
            columns = (
                free["agreement"],
                -free["training_distance"],
                table["prior_score"],
                table["score"],
            )
            found.append(
                [spearman_score(gains, c[list(models)].to_numpy()) for c in columns]
            )
            print(f"  {target:26s}" + "".join(f"{one:11.2f}" for one in found[-1]))
        means = np.mean(found, axis=0)
        print(f"  {'mean':26s}" + "".join(f"{one:11.2f}" for one in means), flush=True)


if __name__ == "__main__":
    main()
