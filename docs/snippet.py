from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from fute_sklearn import rank_models

films = ["a fine film", "a dull film", "a joy to watch", "slow and sad"]
food = ["tasty and fresh", "cold and stale", "the best soup", "a bland meal"]
y = ["good", "bad", "good", "bad"]
models = {  # fitted, of any kind
    "films": make_pipeline(TfidfVectorizer(), LinearSVC(random_state=0)).fit(films, y),
    "food": make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(food, y),
    "rule": lambda texts: ["bad" if "and" in text else "good" for text in texts],
}
X_new = ["a fine room", "the bed was cold", "a joy to stay here", "dull and slow"]
table = rank_models(models, X_new, y, texts=films + food, quick=True)
print(table[["score", "rank"]].round(2))
print(table.attrs["verdict"])
