#!/usr/bin/env python3
"""sqlite-vec's exact search over the vectors that bench_context wrote, for comparison.

    bench_context FOLDER 100000 map vectors.f32 queries.f32
    context_peer.py vectors.f32 queries.f32 [n_queries]     needs sqlite-vec==0.1.9 and numpy from PyPI,
                                                              and a Python whose sqlite3 loads extensions

One CSV line each, CPU time of the one thread, as bench_context prints it."""
import sqlite3
import sys
import time

import numpy as np
import sqlite_vec

D, K = 384, 10


def main():
    vectors = np.fromfile(sys.argv[1], np.float32).reshape(-1, D)
    queries = np.fromfile(sys.argv[2], np.float32).reshape(-1, D)[:int(sys.argv[3]) if len(sys.argv) > 3 else 50]
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    sqlite_vec.load(db)
    db.execute(f"create virtual table v using vec0(e float[{D}] distance_metric=cosine)")
    start = time.process_time()
    db.executemany("insert into v(rowid, e) values (?, ?)", ((i + 1, row.tobytes()) for i, row in enumerate(vectors)))
    db.commit()
    print(f"sqlite-vec insert,{len(vectors) / (time.process_time() - start):.6g},rows/s on one core, in memory")
    times, found = [], 0
    for q in queries:
        start = time.thread_time()
        ids = [row[0] for row in db.execute("select rowid from v where e match ? and k = ?", (q.tobytes(), K))]
        times.append((time.thread_time() - start) * 1e3)
        found += len(set(ids) & set((np.argsort(-(vectors @ q))[:K] + 1).tolist()))
    times.sort()
    print(f"sqlite-vec recall@10,{found / (len(queries) * K):.6g},")
    print(f"sqlite-vec p50 cpu,{times[len(times) // 2]:.6g},ms")
    print(f"sqlite-vec p95 cpu,{times[len(times) * 95 // 100]:.6g},ms")


if __name__ == "__main__":
    main()
