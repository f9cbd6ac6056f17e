"""The baseline of `bench_serve`: FastAPI around transformers' pipeline, one request at a time, as in tutorials.

It serves the merged model, so the adapter costs nothing. Requests and responses have the format of `feathertune serve`.
"""

from __future__ import annotations

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Texts(BaseModel):
    """Request body."""

    texts: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    classify = pipeline("text-classification", arguments.model, dtype=getattr(torch, arguments.dtype), device="cpu")
    app = FastAPI()

    @app.post("/v1/models/{name}:predict")
    async def predict(name: str, body: Texts) -> dict[str, object]:
        rows = classify(body.texts, top_k=None, truncation=True)
        named = [{one["label"]: one["score"] for one in row} for row in rows]
        return {"model": name, "predictions": [{"label": max(p, key=p.get), "probabilities": p} for p in named]}

    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
