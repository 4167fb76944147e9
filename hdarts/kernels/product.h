/* Matrix products by tiles of sums in registers: of 1x1 convolutions, their gradients, and the places of winograd.h. */

#pragma once

#include "lanes.h"

enum { ROWS = V * sizeof(REAL) == 64 ? 8 : 4, GROUP = 3 }; /* per step of a product: rows, vectors of columns */

INLINE void product_of(const int n, const REAL *a, int64_t down, int64_t along, const vec *b, int64_t b_wide,
                       int64_t depth, vec *out, int64_t wide, int64_t rows, int add) {
    vec sums[ROWS][GROUP];
    FOR(q, ROWS) FOR(v, n) sums[q][v] = (vec){0};
    for (int64_t k = 0; k < depth; k++, a += along, b += b_wide) {
        vec kept[GROUP];
        FOR(v, n) { kept[v] = b[v]; KEEP(kept[v]); }
        FOR(q, ROWS) FOR(v, n) sums[q][v] += a[q * down] * kept[v];
    }
    FOR(q, ROWS) {
        if (q < rows && add) FOR(v, n) out[q * wide + v] += sums[q][v];
        else if (q < rows) FOR(v, n) out[q * wide + v] = sums[q][v];
    }
}

/* Number of vectors of columns per group: groups are as even as possible. */
static inline int64_t group_of(int64_t columns) {
    int64_t groups = (columns + GROUP - 1) / GROUP;
    return (columns + groups - 1) / groups;
}

/* out (rows, columns) = or += a (rows, depth) times b (depth, columns): `down` and `along` are the strides of a,
   b_wide and wide those of the rows of b and out. Reads, but does not use, rows of a up to a multiple of ROWS. */
static void product(const REAL *a, int64_t down, int64_t along, const vec *b, int64_t b_wide, int64_t depth, vec *out,
                    int64_t wide, int64_t rows, int64_t columns, int add) {
    int64_t most = group_of(columns);
    for (int64_t v = 0; v < columns; v += most)
        for (int64_t q = 0; q < rows; q += ROWS) {
            const REAL *from = a + q * down;
            vec *to = out + q * wide + v;
            switch (columns - v < most ? columns - v : most) {
            case 1: product_of(1, from, down, along, b + v, b_wide, depth, to, wide, rows - q, add); break;
            case 2: product_of(2, from, down, along, b + v, b_wide, depth, to, wide, rows - q, add); break;
            default: product_of(3, from, down, along, b + v, b_wide, depth, to, wide, rows - q, add);
            }
        }
}
