"""/v1/rerank: order, forms, limits; and what a server says whose model writes no text."""
import subprocess

import pytest

from test_contract import GENERATIONS, check_error

QUERY = "the hot word"
DOCUMENTS = ["they were all there", "the hot word", "he said this", "", "what can you do about it", "I"]
PATHS = ("/v1/rerank", "/rerank", "/v1/reranking", "/reranking")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """encoder(name): a tiny random encoder."""
    made, folder = {}, tmp_path_factory.mktemp("encoders")

    def get(name):
        tiny_encoders = pytest.importorskip("tiny_encoders", reason="the oracle, which encodes weights, is not there")
        if name not in made:
            made[name] = tiny_encoders.make(folder / f"{name}.gguf", name)
        return made[name]

    return get


@pytest.fixture(scope="module", params=("bert_rank_3", "qwen3_rank"))
def ranker(start, encoder, request):
    s = start("-c", 64, model=encoder(request.param))
    yield s
    s.end()


def scores(reply):
    """Index to score; the order is checked on the way."""
    assert reply.status == 200, reply.text
    results = reply.json["results"]
    by = [r["relevance_score"] for r in results]
    assert by == sorted(by, reverse=True)
    return {r["index"]: r["relevance_score"] for r in results}


@pytest.mark.smoke
def test_order_and_usage(ranker):
    all_ = scores(ranker.post("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS}))
    assert sorted(all_) == [0, 1, 2, 3, 4, 5] and len(set(all_.values())) == 6
    r = ranker.post("/v1/rerank", {"model": "any", "query": QUERY, "documents": DOCUMENTS[:1]}).json
    assert set(r) == {"object", "model", "results", "usage"} and r["usage"]["prompt_tokens"] == r["usage"]["total_tokens"] > 3
    assert set(r["results"][0]) == {"index", "relevance_score"}


def test_together_as_one_by_one(ranker):
    many = DOCUMENTS * 12
    got = scores(ranker.post("/v1/rerank", {"query": QUERY, "documents": many}))
    for i, d in enumerate(DOCUMENTS):
        alone = scores(ranker.post("/v1/rerank", {"query": QUERY, "documents": [d]}))[0]
        assert {got[k] for k in range(i, len(many), len(DOCUMENTS))} == {alone}


@pytest.mark.smoke
def test_equal_ones_keep_their_order(ranker):
    r = ranker.post("/v1/rerank", {"query": QUERY, "documents": ["I"] * 5}).json
    assert [x["index"] for x in r["results"]] == [0, 1, 2, 3, 4]


@pytest.mark.smoke
@pytest.mark.parametrize("path", PATHS)
def test_top_n_and_documents(ranker, path):
    ask = {"query": QUERY, "documents": [{"text": d} if i % 2 else d for i, d in enumerate(DOCUMENTS)]}
    all_ = ranker.post(path, ask).json["results"]
    assert ranker.post(path, {**ask, "top_n": 2}).json["results"] == all_[:2]
    assert ranker.post(path, {**ask, "top_n": 100}).json["results"] == all_
    told = ranker.post(path, {**ask, "return_documents": True}).json["results"]
    assert [t["document"] for t in told] == [{"text": DOCUMENTS[t["index"]]} for t in told]


def test_the_command_line_gives_the_same(ranker, binary):
    lines = "\n".join(f"{QUERY}\t{d}" for d in DOCUMENTS)
    done = subprocess.run([binary, "embed", ranker.model, "-q", "-c", "64"], input=lines.encode(), capture_output=True, check=True)
    got = scores(ranker.post("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS}))
    assert [float(x.split(b",")[0].strip(b"[] \n")) for x in done.stdout.splitlines()] == [pytest.approx(got[i], rel=1e-6) for i in range(6)]


@pytest.mark.smoke
def test_too_long_is_refused_with_both_numbers_or_cut(ranker):
    long = "was it for this " * 40
    r = ranker.post("/v1/rerank", {"query": QUERY, "documents": ["I", long]})
    check_error(r, "/v1/", 400, "context_length_exceeded", "documents")
    assert "element 1" in r.text and " tokens, the context 64" in r.text
    cut = ranker.post("/v1/rerank", {"query": QUERY, "documents": ["I", long], "truncate": True})
    assert len(scores(cut)) == 2 and 64 < cut.json["usage"]["prompt_tokens"] < 100
    r = ranker.post("/v1/rerank", {"query": long, "documents": ["I"], "truncate": True})  # the query is never cut
    check_error(r, "/v1/", 400, "context_length_exceeded", "documents")


@pytest.mark.smoke
@pytest.mark.parametrize("change, param", (
    ({"query": None}, "query"), ({"query": ""}, "query"), ({"query": 5}, "query"), ({"documents": None}, "documents"),
    ({"documents": []}, "documents"), ({"documents": "x"}, "documents"), ({"documents": ["a", 5]}, "documents"),
    ({"documents": [{"body": "x"}]}, "documents"), ({"documents": ["x"] * 2049}, "documents"), ({"top_n": 0}, "top_n"),
    ({"top_n": "1"}, "top_n"), ({"return_documents": 1}, "return_documents"), ({"truncate": 1}, "truncate"), ({"input": "x"}, "input")))
def test_wrong_fields_are_named(ranker, change, param):
    r = ranker.post("/v1/rerank", {"query": QUERY, "documents": ["x"], **change})
    check_error(r, "/v1/", 400, "request.field", param)


@pytest.mark.smoke
def test_a_model_without_a_rank_head(server):
    for path in PATHS:
        r = server.post(path, {"query": QUERY, "documents": ["x"]})
        check_error(r, "/v1/", 400, "request.unsupported", "model")
        assert "rank head" in r.text


# --- models that write no text ----------------------------------------------------------------------------------------------------
@pytest.mark.smoke
@pytest.mark.parametrize("name, gives, route", (("bert", "embeddings (mean), no text", "/v1/embeddings"), ("bert_cls", "embeddings (cls), no text", "/v1/embeddings"),
                                                ("bert_rank_3", "scores of documents, no text", "/v1/rerank")))
def test_an_encoder_says_what_it_is(serve, encoder, name, gives, route):
    s = serve(model=encoder(name))
    for path, (body, _) in GENERATIONS.items():
        r = s.post(path, body)
        check_error(r, path, 400, None, "model")
        assert (r.json["error"] if path.startswith(("/v1", "/completion")) else r.json)["code"] == "model.embeds_only" and route in r.text
    health = s.get("/health").json
    assert health["gives"] == gives and health["generates"] is False and health["status"] == "healthy"
    page = s.get("/").text
    assert gives in page and "/v1/embeddings" in page and "/v1/chat/completions" not in page and "/generate" not in page


@pytest.mark.smoke
def test_a_ranker_has_no_vectors_unless_told(serve, encoder):
    check_error(serve(model=encoder("bert_rank_3")).post("/v1/embeddings", {"input": "I"}), "/v1/", 400, "request.unsupported")
    s = serve("--pooling", "mean", model=encoder("bert_rank_3"))
    assert len(s.post("/v1/embeddings", {"input": "I"}).json["data"][0]["embedding"]) == 256
    assert s.post("/v1/rerank", {"query": QUERY, "documents": ["x"]}).status == 200


@pytest.mark.parametrize("name", ("bert", "nomic-bert", "jina-bert-v2", "modern-bert", "gemma-embedding_dense", "qwen3"))
def test_encoders_together_as_one_by_one(serve, encoder, name):
    s, texts = serve("-c", 256, model=encoder(name)), [f"it was {'all there and ' * (i % 9)} {i}" for i in range(64)]
    alone = [s.post("/v1/embeddings", {"input": t, "encoding_format": "base64"}).json["data"][0]["embedding"] for t in texts]
    together = s.post("/v1/embeddings", {"input": texts, "encoding_format": "base64"}).json["data"]
    assert [d["embedding"] for d in together] == alone and len(set(alone)) == 64
    r = s.post("/v1/embeddings", {"input": "a " * 300})
    check_error(r, "/v1/", 400, "context_length_exceeded", "input")
    assert len(s.post("/v1/embeddings", {"input": "a " * 300, "truncate": True}).json["data"]) == 1


@pytest.mark.smoke
def test_dimensions_where_the_model_was_trained_for_it(serve, encoder, tmp_path):
    s = serve(model=encoder("gemma-embedding"))
    whole = s.post("/v1/embeddings", {"input": "his word"}).json["data"][0]["embedding"]
    part = s.post("/v1/embeddings", {"input": "his word", "dimensions": 128}).json["data"][0]["embedding"]
    scale = sum(x * x for x in whole[:128]) ** 0.5
    assert len(part) == 128 and max(abs(a - b / scale) for a, b in zip(part, whole)) < 1e-6
    for n in (127, 257):
        r = s.post("/v1/embeddings", {"input": "his word", "dimensions": n})
        check_error(r, "/v1/", 400, "request.field", "dimensions")
        assert "128 and 256" in r.text
    r = serve(model=encoder("qwen3")).post("/v1/embeddings", {"input": "his word", "dimensions": 128})  # not Qwen3-Embedding by name
    check_error(r, "/v1/", 400, "request.field", "dimensions")


@pytest.mark.smoke
def test_a_rank_head_cannot_be_asked_for(binary, smollm2):
    done = subprocess.run([binary, "serve", smollm2, "--port", "0", "--pooling", "rank"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "rank head" in done.stderr
