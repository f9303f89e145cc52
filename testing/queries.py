"""Queries that keep a server busy."""

# Hours of work that no planner can skip.
ENDLESS = "UNWIND range(1,1000000000000) AS x WITH x WHERE x%7=8 RETURN count(x)"

# Neo4j goes on producing a result that its client does not read, and keeps it. The first 30 MB fill every buffer on the
# way. The rest comes slowly, so that the transaction neither ends nor fills the heap.
ROWS = ("UNWIND range(1,100000) AS x CALL (x) { UNWIND range(1, CASE WHEN x < 1500 THEN 1 ELSE 20000 END) AS y "
        "RETURN count(y) AS n } RETURN x, n, $filler AS s")
FILLER = "a" * 20_000
